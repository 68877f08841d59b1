//! What the size of a dictionary does to pages of small objects: bytes, and time to expand.
//!
//! Invariants:
//!   * What is compressed is not among what a dictionary was trained on.
//!   * What was compressed is expanded and compared.

use crate::measure::{Goal, Random, line};
use crate::{Result, Settings};
use dostore::segment::dictionary::{Dictionary, compress, expand};
use std::time::Instant;

const KIBIBYTES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Objects from which a dictionary learns, as many as a checkpoint samples.
const SAMPLES: usize = 4_000;
const NAMES: [&str; 8] = ["ann", "bob", "eve", "dan", "kim", "lou", "max", "zoe"];
/// Kinds of objects that one namespace holds where it holds many.
const SHAPES: usize = 40;
const FIELDS: [&str; 20] = [
    "player",
    "room",
    "cart",
    "message",
    "session",
    "invoice",
    "score",
    "member",
    "document",
    "reaction",
    "device",
    "ticket",
    "address",
    "channel",
    "order",
    "payment",
    "seen",
    "title",
    "attachment",
    "preference",
];
const COLOURS: [&str; 4] = ["red", "green", "blue", "yellow"];

pub fn run(settings: &Settings) -> Result<()> {
    for shapes in [1, SHAPES] {
        let mut random = Random::new(1);
        let mut objects = |count| -> Vec<_> {
            (0..count).map(|_| object(random.below(shapes), &mut random)).collect()
        };
        let (samples, objects) = (objects(SAMPLES), objects(settings.objects(20_000)));
        let name = format!("dictionaries: {shapes} shapes");
        let raw = objects.iter().map(Vec::len).sum::<usize>() as f64 / objects.len() as f64;
        line(&format!("{name}, body"), raw, "B", Goal::None, None);
        measure(&format!("{name}, none"), None, &objects)?;
        for kibibytes in KIBIBYTES {
            let Some(dictionary) = Dictionary::train(&samples, kibibytes << 10) else {
                return Err("nothing was learnt".into());
            };
            measure(&format!("{name}, {kibibytes} KiB"), Some(&dictionary), &objects)?;
        }
    }
    Ok(())
}

/// A small object as an application keeps one: text of one of several shapes, a few fields of which
/// vary, and an identity of which every byte is random.
fn object(shape: usize, random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    let field = |place: usize| FIELDS[(shape * 7 + place * (shape + 1)) % FIELDS.len()];
    let (first, second, third) = (field(0), field(1), field(2));
    for item in 0..6 {
        let (name, colour) = (NAMES[random.below(8)], COLOURS[random.below(4)]);
        let (id, count, time) = (random.next(), random.below(100_000), random.below(1 << 30));
        let text = format!(
            "{first}/{item:04}{{\"kind\":\"{first}-{shape}\",\"id\":\"{id:016x}\",\
             \"by\":\"{name}\",\"{second}\":\"{colour}\",\"{second}_{third}\":{count},\
             \"{third}_at\":{time},\"is_{third}\":false}}"
        );
        body.extend_from_slice(text.as_bytes());
    }
    body
}

fn measure(name: &str, dictionary: Option<&Dictionary>, objects: &[Vec<u8>]) -> Result<()> {
    let began = Instant::now();
    let mut frames = Vec::with_capacity(objects.len());
    for object in objects {
        let mut frame = Vec::new();
        if !compress(dictionary, object, object.len(), &mut frame) {
            return Err("an object grew".into());
        }
        frames.push(frame);
    }
    let micros = |began: Instant| began.elapsed().as_secs_f64() * 1e6 / objects.len() as f64;
    let compressing = micros(began);
    let began = Instant::now();
    let mut back = Vec::new();
    for (object, frame) in objects.iter().zip(&frames) {
        back.clear();
        back.resize(object.len(), 0);
        expand(dictionary, frame, &mut back)?;
        if back != *object {
            return Err("an object came back as another".into());
        }
    }
    let expanding = micros(began);
    let bytes = frames.iter().map(Vec::len).sum::<usize>() as f64 / objects.len() as f64;
    let say = |what: &str, value: f64, unit: &str| {
        line(&format!("{name}, {what}"), value, unit, Goal::None, None);
    };
    say("bytes", bytes, "B");
    say("compressing", compressing, "us");
    say("expanding", expanding, "us");
    Ok(())
}
