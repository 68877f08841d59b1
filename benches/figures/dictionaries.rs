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
const COLOURS: [&str; 4] = ["red", "green", "blue", "yellow"];

pub fn run(settings: &Settings) -> Result<()> {
    let mut random = Random::new(1);
    let samples: Vec<_> = (0..SAMPLES).map(|_| object(&mut random)).collect();
    let objects: Vec<_> = (0..settings.objects(20_000)).map(|_| object(&mut random)).collect();
    let raw: usize = objects.iter().map(Vec::len).sum();
    let each = |bytes: usize| bytes as f64 / objects.len() as f64;
    line("dictionaries: body of an object", each(raw), "B", Goal::None, None);
    measure("none", None, &objects)?;
    for kibibytes in KIBIBYTES {
        let Some(dictionary) = Dictionary::train(&samples, kibibytes << 10) else {
            return Err("nothing was learnt".into());
        };
        measure(&format!("{kibibytes} KiB"), Some(&dictionary), &objects)?;
    }
    Ok(())
}

/// A small object as an application keeps one: text of a known shape, a few fields of which vary,
/// and an identity of which every byte is random.
fn object(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    for item in 0..6 {
        let (name, colour) = (NAMES[random.below(8)], COLOURS[random.below(4)]);
        let (id, score, seen) = (random.next(), random.below(100_000), random.below(1 << 30));
        let text = format!(
            "item/{item:04}{{\"kind\":\"player\",\"id\":\"{id:016x}\",\"name\":\"{name}\",\
             \"team\":\"{colour}\",\"score\":{score},\"seen\":{seen},\"banned\":false}}"
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
        line(&format!("dictionaries: {name}, {what}"), value, unit, Goal::None, None);
    };
    say("bytes", bytes, "B");
    say("compressing", compressing, "us");
    say("expanding", expanding, "us");
    Ok(())
}
