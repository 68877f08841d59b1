//! A directory over random runs, some damaged, against sorted maps; merges of them against both.
//!
//! Invariants:
//!   * Runs are as checkpoints make them: whoever writes pages of an object writes its head, and
//!     lives only go on.

use super::*;
use crate::alarm::Alarm;
use crate::error::Error;
use crate::format::entry::{PAGE_TOMBSTONE, PagePart};
use crate::ids::{Lsn, NamespaceNumber, ShortId};
use crate::names::FileName;
use crate::run::testing::MemoryDisk;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OBJECTS: u8 = 4;
const FENCES: [&[u8]; 5] = [b"", b"\x01b", b"\x01d", b"\x01dd", b"\x01f"];
const KEYS: [&[u8]; 7] = [b"", b"\x01a", b"\x01b", b"\x01dc", b"\x01dd", b"\x01e", b"\x02"];

/// What a checkpoint says of one object.
#[derive(Clone, Debug)]
struct Touch {
    object: u8,
    deletes: bool,
    new_life: bool,
    /// By fence: nothing, a tombstone for zero, or a page with one delta less.
    pages: Vec<Option<u8>>,
}

/// A run as written, the damage not yet done.
#[derive(Clone, Debug, Default)]
struct Planned {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    holes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A run as it can be read.
#[derive(Debug)]
struct Model {
    run: Arc<Run>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    lost: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
struct Lost;

/// The runs that do not deny an object.
fn known(models: &[Model], object: u8) -> Vec<&Model> {
    models.iter().filter(|model| model.run.may_hold(&address(object))).collect()
}

fn address(object: u8) -> Address {
    Address { namespace: NamespaceNumber(1), id: ShortId([object; 16]) }
}

fn touches() -> impl Strategy<Value = Vec<Vec<Touch>>> {
    let page = proptest::option::of(prop_oneof![1 => Just(0u8), 2 => 1u8..120]);
    let touch = (0..OBJECTS, 0u8..4, 0u8..4, vec(page, FENCES.len())).prop_map(
        |(object, deletes, new_life, pages)| Touch {
            object,
            deletes: deletes == 0,
            new_life: new_life == 0,
            pages,
        },
    );
    vec(vec(touch, 0..6), 1..5)
}

/// The runs that these checkpoints leave, the newest first.
fn plan(checkpoints: &[Vec<Touch>]) -> Vec<Planned> {
    let mut lives = [1; OBJECTS as usize];
    let mut serial = 0;
    let mut runs = Vec::new();
    for touches in checkpoints {
        let mut run = Planned::default();
        let mut seen = [false; OBJECTS as usize];
        for touch in touches {
            let object = usize::from(touch.object);
            if std::mem::replace(&mut seen[object], true) {
                continue;
            }
            lives[object] += u64::from(touch.new_life || touch.deletes);
            serial += 1;
            put(&mut run, touch, Life(lives[object]), serial);
            lives[object] += u64::from(touch.deletes);
        }
        runs.insert(0, run);
    }
    runs
}

fn put(run: &mut Planned, touch: &Touch, life: Life, serial: u64) {
    let address = address(touch.object);
    let alarm = Alarm { generation: Lsn(serial), ..Default::default() };
    let deleted = touch.deletes;
    let head = Head { deleted, life, count: serial, alarm: Some(alarm), ..Default::default() };
    let mut value = Vec::new();
    head.encode(&mut value);
    run.entries.insert(head_key(address).to_vec(), value);
    for (fence, page) in FENCES.iter().zip(&touch.pages) {
        let mut value = Vec::new();
        match page {
            _ if deleted => continue,
            None => continue,
            Some(0) => value.extend_from_slice(PAGE_TOMBSTONE),
            Some(more) => {
                let part = PagePart { exact_at: Lsn(u64::MAX), ..Default::default() };
                let deltas = vec![part; usize::from(more - 1)];
                let page =
                    PageEntry { deltas, logged_since_archived: serial, ..Default::default() };
                page.encode(&mut value);
            }
        }
        run.entries.insert(page_key(address, life, fence), value);
    }
}

/// Writes a run, flips a bit of it if that hits a block, and says what is left.
fn make(disk: &MemoryDisk, planned: &Planned, damage: Option<usize>) -> (Arc<Run>, Model) {
    let mut writer = disk.writer(RunUse::Directory);
    for (key, value) in &planned.entries {
        writer.add(key, value).unwrap();
    }
    for (first, last) in &planned.holes {
        writer.add_hole(first, last);
    }
    let facts = writer.finish().unwrap();
    let blocks = disk.open_run(&facts).unwrap().blocks();
    if let Some(at) = damage.filter(|at| at / 4096 < blocks) {
        disk.flip(FileName::Run(facts.number), 4096 + at, 4);
    }
    let run = disk.open_run(&facts).unwrap();
    let model = read(&run, &planned.entries);
    (run, model)
}

fn read(run: &Arc<Run>, entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Model {
    let mut entries = entries.clone();
    let mut lost: Vec<_> =
        run.holes().iter().map(|hole| (hole.first.clone(), hole.last.clone())).collect();
    run.verify(|_, _, first, last| {
        entries.retain(|key, _| key.as_slice() < first || key.as_slice() > last);
        lost.push((first.to_vec(), last.to_vec()));
    })
    .unwrap();
    Model { run: Arc::clone(run), entries, lost }
}

fn get<'m>(models: &[&'m Model], key: &[u8]) -> std::result::Result<Option<&'m [u8]>, Lost> {
    for model in models {
        if let Some(value) = model.entries.get(key) {
            return Ok(Some(value));
        }
        if model.lost.iter().any(|(first, last)| first.as_slice() <= key && key <= last.as_slice())
        {
            return Err(Lost);
        }
    }
    Ok(None)
}

/// The first of `keys` that is alive, unless something was lost on the way to it.
fn first_live(
    models: &[&Model],
    keys: &[Vec<u8>],
    between: impl Fn(Option<&[u8]>, &(Vec<u8>, Vec<u8>)) -> bool,
) -> std::result::Result<Option<FencedPage>, Lost> {
    let hidden = |key: Option<&[u8]>| {
        models.iter().flat_map(|model| &model.lost).any(|lost| between(key, lost))
    };
    for key in keys {
        if models.iter().all(|model| !model.entries.contains_key(key)) {
            continue;
        }
        if hidden(Some(key)) {
            return Err(Lost);
        }
        if let Some(page) = get(models, key)?.map(|value| PageEntry::decode_value(value).unwrap()) {
            let Some(page) = page else { continue };
            return Ok(Some((key[29..].to_vec(), page)));
        }
    }
    if hidden(None) { Err(Lost) } else { Ok(None) }
}

fn page_keys(object: u8, life: Life) -> Vec<Vec<u8>> {
    FENCES.iter().map(|fence| page_key(address(object), life, fence)).collect()
}

fn model_page_at(
    models: &[&Model],
    (object, life): (u8, Life),
    key: &[u8],
) -> std::result::Result<Option<FencedPage>, Lost> {
    let (target, prefix) =
        (page_key(address(object), life, key), page_keys(object, life).remove(0));
    let keys = page_keys(object, life).into_iter().rev().filter(|key| *key <= target);
    first_live(models, &keys.collect::<Vec<_>>(), |found, (first, last)| match found {
        Some(found) => *first <= target && last.as_slice() > found && found < target.as_slice(),
        None => *first <= target && *last >= prefix,
    })
}

fn same<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    got: &Result<T>,
    expected: &std::result::Result<T, E>,
) -> std::result::Result<(), TestCaseError> {
    match (got, expected) {
        (Ok(got), Ok(expected)) => prop_assert_eq!(got, expected),
        (Err(_), Err(_)) => {}
        _ => prop_assert!(false, "{:?} is not {:?}", got, expected),
    }
    Ok(())
}

fn model_head(models: &[&Model], object: u8) -> std::result::Result<Option<Head>, Lost> {
    Ok(get(models, &head_key(address(object)))?.map(|value| Head::decode(value).unwrap()))
}

fn holes_of(picks: &[(u8, usize, usize)], run: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all: Vec<_> = (0..OBJECTS)
        .flat_map(|object| {
            let pages = (1..4).flat_map(move |life| page_keys(object, Life(life)));
            std::iter::once(head_key(address(object)).to_vec()).chain(pages)
        })
        .collect();
    let picked = picks.iter().filter(|pick| pick.0 == run);
    picked
        .map(|(_, at, more)| {
            (all[at % all.len()].clone(), all[(at + more).min(all.len() - 1)].clone())
        })
        .filter(|(first, last)| first <= last)
        .collect()
}

type Made = (MemoryDisk, Vec<Arc<Run>>, Vec<Model>);

fn make_all(
    checkpoints: &[Vec<Touch>],
    damage: &[Option<usize>],
    holes: &[(u8, usize, usize)],
) -> Made {
    let disk = MemoryDisk::new(true);
    let mut planned = plan(checkpoints);
    for (run, number) in planned.iter_mut().zip(0..) {
        run.holes = holes_of(holes, number);
    }
    let made = planned.iter().zip(damage).map(|(run, damage)| make(&disk, run, *damage));
    let (runs, models) = made.unzip();
    (disk, runs, models)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_directory_answers_as_its_runs_laid_over_each_other(
        checkpoints in touches(),
        damage in vec(proptest::option::weighted(0.3, 0usize..20_000), 5),
        holes in vec((0u8..5, 0usize..60, 0usize..12), 0..3),
    ) {
        let (_disk, runs, models) = make_all(&checkpoints, &damage, &holes);
        let directory = Directory::new(runs);
        for object in 0..OBJECTS {
            let models = known(&models, object);
            same(&directory.head(address(object)), &model_head(&models, object))?;
            for life in (1..8).map(Life) {
                check_pages(&directory, &models, object, life)?;
            }
        }
        let (heads, errors): (Vec<_>, Vec<_>) =
            directory.heads(address(0)).partition(Result::is_ok);
        let expected = (0..OBJECTS).map(|object| (object, known(&models, object)));
        let expected = expected.map(|(object, models)| (object, model_head(&models, object)));
        let (expected, lost): (Vec<_>, Vec<_>) = expected.partition(|(_, head)| head.is_ok());
        prop_assert!(lost.is_empty() || !errors.is_empty());
        prop_assert!(errors.is_empty() || models.iter().any(|model| !model.lost.is_empty()));
        let expected = expected.into_iter().filter_map(|(object, head)| {
            head.unwrap().map(|head| (address(object), head))
        });
        prop_assert!(heads.into_iter().map(Result::unwrap).eq(expected));
    }

    #[test]
    fn heads_in_pages_are_those_of_one_walk_and_no_loss_is_told_twice(
        checkpoints in touches(),
        damage in vec(proptest::option::weighted(0.3, 0usize..20_000), 5),
        holes in vec((0u8..5, 0usize..60, 0usize..12), 0..3),
        page in 1usize..4,
    ) {
        let (_disk, runs, _) = make_all(&checkpoints, &damage, &holes);
        let directory = Directory::new(runs);
        let last = address(OBJECTS - 1);
        let (mut found, mut errors) = (Vec::new(), 0);
        let (mut next, mut told) = (Some(address(0)), Vec::new());
        while let Some(from) = next.take() {
            let mut heads = directory.heads_within(from..=last, &told);
            let end = found.len() + page;
            for head in heads.by_ref() {
                match head {
                    Ok((address, _)) if found.len() == end => {
                        next = Some(address);
                        break;
                    }
                    Ok((address, _)) => found.push(address),
                    Err(_) => errors += 1,
                }
            }
            told = heads.lost_to();
        }
        let all: Vec<_> = directory.heads(address(0)).flatten().map(|(at, _)| at).collect();
        prop_assert_eq!(found, all);
        let at_once = directory.heads_within(address(0)..=last, &[]).filter(Result::is_err).count();
        // One that lies inside another told before is told with that.
        prop_assert!(errors <= at_once && (errors == 0) == (at_once == 0));
    }

    #[test]
    fn a_merge_changes_no_answer(
        checkpoints in touches(),
        damage in vec(proptest::option::weighted(0.3, 0usize..20_000), 5),
        holes in vec((0u8..5, 0usize..60, 0usize..12), 0..3),
        from in 0usize..4, length in 1usize..5,
    ) {
        let (disk, mut runs, models) = make_all(&checkpoints, &damage, &holes);
        let from = from.min(runs.len() - 1);
        let to = (from + length).min(runs.len());
        let bottom = to == runs.len();
        let mut out = disk.writer(RunUse::Directory);
        let stats = merge(&runs[from..to], bottom, |_, _| true, &mut out).unwrap();
        let facts = out.finish().unwrap();
        prop_assert_eq!(stats.written, facts.entries);
        prop_assert_eq!(stats.written + stats.dropped, stats.newest);
        runs.splice(from..to, [disk.open_run(&facts).unwrap()]);
        let merged = Directory::new(runs);
        for object in 0..OBJECTS {
            // A filter may know that a run never had what a hole of the merged run may have had.
            let (precise, strict) = (known(&models, object), models.iter().collect::<Vec<_>>());
            let before = model_head(&precise, object);
            let mut after = merged.head(address(object));
            if let (Ok(Some(head)), Ok(none @ None)) = (&before, &mut after) {
                prop_assert!(bottom && head.deleted);
                *none = Some(head.clone());
            }
            same_or(&after, &before, &model_head(&strict, object))?;
            let Ok(Some(head)) = before else { continue };
            for key in KEYS.iter().filter(|_| !head.deleted) {
                let got = merged.page_at(address(object), head.life, key);
                let before = model_page_at(&precise, (object, head.life), key);
                let strictly = model_page_at(&strict, (object, head.life), key);
                same_or(&got, &before, &strictly)?;
            }
        }
    }
}

fn same_or<T: PartialEq + std::fmt::Debug>(
    got: &Result<T>,
    expected: &std::result::Result<T, Lost>,
    strict: &std::result::Result<T, Lost>,
) -> std::result::Result<(), TestCaseError> {
    if got.is_err() && strict.is_err() { Ok(()) } else { same(got, expected) }
}

fn check_pages(
    directory: &Directory,
    models: &[&Model],
    object: u8,
    life: Life,
) -> std::result::Result<(), TestCaseError> {
    let address = address(object);
    for key in KEYS {
        let got = directory.page_at(address, life, key);
        same(&got, &model_page_at(models, (object, life), key))?;
    }
    let (keys, start) = (page_keys(object, life), page_key(address, life, b""));
    for (at, fence) in FENCES.iter().enumerate() {
        let target = &keys[at];
        let below: Vec<_> = keys[..at].iter().rev().cloned().collect();
        let expected = first_live(models, &below, |found, (first, last)| match found {
            Some(found) => first < target && last.as_slice() > found,
            None => first < target && *last >= start,
        });
        same(&directory.page_before(address, life, fence), &expected)?;
        let expected = first_live(models, &keys[at + 1..], |found, (first, last)| match found {
            Some(found) => last > target && first.as_slice() <= found,
            None => last > target && (*first <= start || first.starts_with(&start)),
        });
        same(&directory.page_after(address, life, fence), &expected)?;
    }
    let live = keys.iter().filter_map(|key| get(models, key).ok().flatten());
    let live = live.filter_map(|value| PageEntry::decode_value(value).unwrap());
    let pages = directory.pages(address, life).filter_map(Result::ok).map(|(_, page)| page);
    prop_assert!(pages.eq(live));
    Ok(())
}

#[test]
fn an_entry_that_no_version_writes_is_an_error() {
    let disk = MemoryDisk::new(false);
    let mut writer = disk.writer(RunUse::Directory);
    writer.add(&head_key(address(1)), &[0xFF]).unwrap();
    let run = disk.open_run(&writer.finish().unwrap()).unwrap();
    let directory = Directory::new(vec![run]);
    let code = |error: Error| error.code();
    assert_eq!(directory.head(address(1)).map_err(code), Err("run.entry"));
    assert_eq!(directory.head(address(2)).map_err(code), Ok(None));
    let mut out = disk.writer(RunUse::Directory);
    assert_eq!(
        merge(directory.runs(), true, |_, _| true, &mut out).map_err(code),
        Err("run.entry")
    );
}

#[test]
fn a_hole_among_the_pages_of_one_object_hides_no_head() {
    let page = |object| page_key(address(object), Life(1), b"fence");
    let head = |object| head_key(address(object)).to_vec();
    assert!(hides_no_head(&page(1), &page(1)));
    for (first, last) in [(head(1), page(1)), (page(1), head(2)), (page(1), page(2))] {
        assert!(!hides_no_head(&first, &last));
    }
    assert!(!hides_no_head(b"", &page(1)), "what is no key may be anything");
}
