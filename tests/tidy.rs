//! Rules of the source that no compiler checks: layers, sizes, leftovers, documents in step.
//!
//! Invariants:
//!   * Needs nothing but the standard library and the files of the repository.
//!   * A failure names the file, the line where one is to blame, and the rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The words: each may name those before it in this list.
const WORDS: &[&str] = &[
    "marks",
    "planted",
    "locks",
    "wakes",
    "ids",
    "alarm",
    "names",
    "error",
    "limits",
    "object_id",
    "bookmark",
    "retention",
    "options",
];

/// The layers above the words, the lowest first. Modules of one layer do not name each other.
const LAYERS: &[&[&str]] = &[
    &["format", "disk"],
    &["wal", "segment", "run", "directory", "manifest"],
    &["object"],
    &["engine", "inspect"],
    &["store"],
    &["actor"],
    &["cli"],
    &["main"],
];

/// The only arrows inside a layer: from a module to what begins with this path. `disk::bytes` is a
/// value and does nothing to a disk.
const SIDEWAYS: &[(&str, &str)] = &[("directory", "run"), ("format", "disk::bytes")];

/// Modules that must do with less than what lies below them, and the highest that they may name.
const CONFINED: &[(&str, &str)] = &[("inspect", "manifest")];

const FILE_LINES_MAX: usize = 600;
const LINE_CHARACTERS_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_built(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "target" || name == ".git" || name == "corpus")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a listed name can be read").path()) {
        if path.is_dir() && !is_built(&path) {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Files under `folder` of the repository as relative path and text.
fn texts(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("source is UTF-8");
            (relative(path), text)
        })
        .collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("walked from the root").to_string_lossy().into_owned()
}

fn document(name: &str) -> String {
    let path = root().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

fn rust() -> Vec<(String, String)> {
    texts("", "rs")
}

#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// A problem for each line that `is_bad`.
fn bad_lines(files: &[(String, String)], is_bad: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, text) in files {
        for (index, line) in text.lines().enumerate() {
            if let Some(why) = is_bad(line) {
                problems.push(format!("{file}:{}: {why}", index + 1));
            }
        }
    }
    problems
}

/// How high a module stands: its layer, and its place among the words of the lowest.
fn height(module: &str) -> Option<(usize, usize)> {
    if let Some(place) = WORDS.iter().position(|word| *word == module) {
        return Some((0, place));
    }
    let layer = LAYERS.iter().position(|layer| layer.contains(&module))?;
    Some((layer + 1, 0))
}

/// Why `from` may not name `path`, if it may not.
fn arrow_fault(from: &str, path: &str) -> Option<String> {
    let to = path.split("::").next().unwrap_or(path);
    let is_exception = SIDEWAYS.iter().any(|(module, allowed)| {
        let rest = path.strip_prefix(allowed);
        *module == from && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    if from == to || is_exception {
        return None;
    }
    let Some(upper) = height(from) else {
        return Some(format!("module `{from}` is in no layer of tests/tidy.rs"));
    };
    let Some(lower) = height(to) else {
        return Some(format!("`crate::{to}` names no module of a layer"));
    };
    let confined = CONFINED.iter().any(|(module, highest)| {
        *module == from && height(highest).is_some_and(|highest| lower.0 > highest.0)
    });
    if lower >= upper || confined {
        return Some(format!("`{from}` names `{to}`, which does not lie below it"));
    }
    None
}

/// The paths that begin at the crate, without it; empty where one names no module.
fn named_paths(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(is_name))
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|byte| !is_name(byte) && byte != ':').unwrap_or(rest.len());
            rest[..end].trim_end_matches(':')
        })
        .collect()
}

/// The module of a file under `src`: its folder, or the file itself at the top.
fn module_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

#[test]
fn arrows_point_down() {
    let mut files = texts("src", "rs");
    files.retain(|(file, _)| file != "src/lib.rs");
    assert!(!files.is_empty());
    let mut problems = Vec::new();
    for file in &files {
        let from = module_of(&file.0);
        problems.extend(bad_lines(std::slice::from_ref(file), |line| {
            named_paths(line).iter().find_map(|to| arrow_fault(from, to))
        }));
    }
    none(&problems);
}

#[test]
fn no_path_leaves_its_folder_by_way_of_super() {
    let fault = |line: &str, file: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let at_top = file.matches('/').count() == 1;
        let escapes = code.contains("super::super::")
            || at_top && code.contains("super::") && !code.contains("use super::*;");
        escapes.then(|| "a path through `super` hides an arrow".to_owned())
    };
    let mut problems = Vec::new();
    for file in texts("src", "rs") {
        problems.extend(bad_lines(std::slice::from_ref(&file), |line| fault(line, &file.0)));
    }
    none(&problems);
}

#[test]
fn the_layer_rule_refuses_what_it_should() {
    for (from, to) in [
        ("format", "disk::Disk"),
        ("format", "disk::bytes_of"),
        ("wal", "segment"),
        ("run", "directory"),
        ("ids", "error"),
        ("disk", "engine"),
        ("inspect", "engine"),
        ("inspect", "object"),
        ("wal", "Error"),
    ] {
        assert!(arrow_fault(from, to).is_some(), "{from} -> {to}");
    }
    for (from, to) in [
        ("directory", "run::Run"),
        ("format", "disk::bytes::SharedBytes"),
        ("error", "ids"),
        ("inspect", "wal::reader"),
        ("wal", "wal"),
    ] {
        assert_eq!(arrow_fault(from, to), None, "{from} -> {to}");
    }
    assert_eq!(named_paths("use crate::disk::{Disk, File}; // crate::engine"), ["disk"]);
    assert_eq!(named_paths("pub(in crate::wal) fn f(x: crate::ids::Lsn)"), ["wal", "ids::Lsn"]);
    assert_eq!(named_paths("use crate::{disk, wal};"), [""]);
}

#[test]
fn every_file_says_first_what_it_owns() {
    let silent = rust().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(&silent.map(|(file, _)| format!("{file}: does not start with `//!`")).collect::<Vec<_>>());
}

#[test]
fn files_and_lines_are_short() {
    let files = rust();
    let mut problems = bad_lines(&files, |line| {
        let characters = line.chars().count();
        (characters > LINE_CHARACTERS_MAX).then(|| format!("{characters} characters in a line"))
    });
    for (file, text) in &files {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{file}: {lines} lines"));
        }
    }
    none(&problems);
}

#[test]
fn source_is_ascii() {
    none(&bad_lines(&rust(), |line| (!line.is_ascii()).then(|| "not ASCII".to_owned())));
}

#[test]
fn nothing_is_left_over_or_switched_off() {
    // Each is written in two halves, so that this file does not find itself.
    let banned = [
        concat!("#[ig", "nore"),
        concat!("to", "do!"),
        concat!("un", "implemented!"),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("#[al", "low"),
        concat!("#![al", "low"),
    ];
    none(&bad_lines(&rust(), |line| {
        banned.iter().find(|word| line.contains(**word)).map(|word| format!("`{word}`"))
    }));
}

/// What stands between backticks and ends in `.rs`.
fn named_files(text: &str) -> BTreeSet<&str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| Path::new(span).extension().is_some_and(|found| found == "rs")).collect()
}

#[test]
fn the_architecture_names_every_file_and_no_dead_one() {
    let architecture = document("architecture.md");
    let named = named_files(&architecture);
    let mut problems = Vec::new();
    for (file, _) in texts("src", "rs") {
        let short = file.strip_prefix("src/").unwrap_or(&file);
        if !named.contains(short) && !named.contains(file.as_str()) {
            problems.push(format!("docs/architecture.md does not name `{short}`"));
        }
    }
    for name in named {
        if !root().join("src").join(name).is_file() && !root().join(name).is_file() {
            problems.push(format!("docs/architecture.md names `{name}`, which is not there"));
        }
    }
    none(&problems);
}

#[test]
fn the_format_has_a_section_for_each_of_its_files() {
    let text = document("format.md");
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    let mut problems = Vec::new();
    for (file, _) in texts("src/format", "rs") {
        let inside = file.strip_prefix("src/format/").unwrap_or(&file);
        // A folder has one section.
        let wanted = inside.find('/').map_or(inside, |slash| &inside[..=slash]);
        if !headings.iter().any(|heading| heading.contains(&format!("`{wanted}`"))) {
            problems.push(format!("docs/format.md has no section headed `{wanted}` for {file}"));
        }
    }
    none(&problems);
}

fn documents() -> Vec<(String, String)> {
    texts("", "md")
}

#[test]
fn documents_show_no_path_of_a_machine() {
    let roots = ["home", "root", "work", "Users", "tmp", "var", "mnt"];
    none(&bad_lines(&documents(), |line| {
        let is_shown = |root: &&&str| line.contains(&format!("/{root}/"));
        roots.iter().find(is_shown).map(|root| format!("shows a path in `{root}`"))
    }));
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut problems = Vec::new();
    for (file, text) in documents() {
        let folder = root().join(&file).parent().expect("a file is in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or(target);
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                problems.push(format!("{file}: the link to `{target}` is dead"));
            }
        }
    }
    none(&problems);
}

/// Paths that git tracks; every file where git does not answer.
fn tracked() -> Vec<PathBuf> {
    let listing = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match listing {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(|name| root().join(name))
            .collect(),
        _ => {
            let mut all = Vec::new();
            walk(root(), &mut all);
            all
        }
    }
}

#[test]
fn no_tracked_file_is_large() {
    let mut problems = Vec::new();
    for path in tracked() {
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if bytes > FILE_BYTES_MAX {
            problems.push(format!("{}: {bytes} bytes", relative(&path)));
        }
    }
    none(&problems);
}

/// The numbers of headings such as `### G1. An acknowledged commit survives`.
fn guarantees(text: &str) -> Vec<u32> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .filter_map(|line| {
            let word = line.trim_start_matches('#').split_whitespace().next()?;
            let digits = word.strip_prefix('G')?.trim_end_matches(['.', ':', ',']);
            digits.parse().ok()
        })
        .collect()
}

#[test]
fn every_guarantee_has_a_test_named_after_it() {
    let code: Vec<_> = texts("src", "rs").into_iter().chain(texts("tests", "rs")).collect();
    let names: Vec<&str> = code
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next())
        .collect();
    let mut problems = Vec::new();
    for number in guarantees(&document("guarantees.md")) {
        let tag = format!("g{number}_");
        if !names.iter().any(|name| name.starts_with(&tag) || name.contains(&format!("_{tag}"))) {
            problems.push(format!("no test is named after G{number}, as `fn {tag}...`"));
        }
    }
    none(&problems);
}

#[test]
fn guarantees_are_read_from_headings_only() {
    assert_eq!(guarantees("### G1. One\nG2 in text\n## G12: Twelve\n## Gates\n"), [1, 12]);
}

/// Texts between double quotes that look like the code of an error: two words with a dot. Names of
/// files in attributes are none.
fn error_codes(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    text.lines()
        .filter(|line| !line.starts_with("#["))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(move |code| code.split_once('.').is_some_and(|(a, b)| is_word(a) && is_word(b)))
}

#[test]
fn every_code_of_an_error_is_explained() {
    let operating = document("operating.md");
    let mut problems = Vec::new();
    for (file, text) in texts("src", "rs") {
        let unknown = error_codes(&text).filter(|code| !operating.contains(&format!("`{code}`")));
        problems.extend(unknown.map(|code| format!("{file}: `{code}` is not in operating.md")));
    }
    none(&problems);
}

#[test]
fn codes_are_told_from_other_texts() {
    let line = r#"f("log.damaged", "a text. with a dot", "MANIFEST", "x.", "1.5")"#;
    assert_eq!(error_codes(line).collect::<Vec<_>>(), ["log.damaged"]);
}

/// What stands between backticks and begins as the name of a test of semantics does.
fn semantic_names(text: &str) -> Vec<&str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| semantic_number(span).is_some()).collect()
}

/// The paragraph in the name of a test: `s2_4_a_throw_keeps_its_writes` gives `2.4`.
fn semantic_number(name: &str) -> Option<String> {
    let mut words = name.strip_prefix('s')?.split('_');
    let (section, paragraph) = (words.next()?, words.next()?);
    let is_number = |word: &str| word.parse::<u8>().is_ok();
    let has_claim = words.next().is_some();
    (is_number(section) && is_number(paragraph) && has_claim)
        .then(|| format!("{section}.{paragraph}"))
}

/// Why a point of the semantics is none of the three things that it may be.
fn point_fault(point: &str) -> Option<&'static str> {
    let has_test = !semantic_names(point).is_empty();
    if point.starts_with("Deviation: ") {
        return (!point.contains("Reason: ")).then_some("a deviation without its reason");
    }
    let is_right = has_test || point.starts_with("JavaScript only: ");
    (!is_right).then_some("neither a test, nor a deviation, nor JavaScript only")
}

#[test]
fn each_test_of_semantics_is_in_the_document_and_each_there_exists() {
    let document = document("semantics.md");
    let code = texts("tests/semantics", "rs");
    let tests: BTreeSet<&str> = code
        .iter()
        .flat_map(|(_, text)| text.split("#[test]\n").skip(1))
        .filter_map(|text| text.trim_start().strip_prefix("fn ")?.split('(').next())
        .collect();
    let named: BTreeSet<&str> = semantic_names(&document).into_iter().collect();
    let mut problems = Vec::new();
    for name in tests.difference(&named) {
        problems.push(format!("docs/semantics.md does not name `{name}`"));
    }
    for name in named.difference(&tests) {
        problems.push(format!("docs/semantics.md names `{name}`, which is no test"));
    }
    if tests.len() < 150 {
        problems.push(format!("{} tests of semantics", tests.len()));
    }
    none(&problems);
}

#[test]
fn each_point_of_the_semantics_is_tested_or_explained_in_its_paragraph() {
    let document = document("semantics.md");
    let mut problems = Vec::new();
    let mut proven = BTreeSet::new();
    for paragraph in document.split("\n### ").skip(1) {
        let number = paragraph.split_whitespace().next().unwrap_or_default();
        for point in paragraph.split("\n* ").skip(1) {
            let point = point.split("\n\n").next().unwrap_or_default();
            let first = point.lines().next().unwrap_or_default();
            problems.extend(point_fault(point).map(|fault| format!("{number} {first}: {fault}")));
            let names = semantic_names(point).into_iter();
            let own = |name: &&str| semantic_number(name).as_deref() == Some(number);
            proven.extend(names.filter(own).map(str::to_owned));
        }
    }
    for name in semantic_names(&document) {
        if !proven.contains(name) {
            problems.push(format!("`{name}` stands in no point of its own paragraph"));
        }
    }
    none(&problems);
}

#[test]
fn names_of_semantics_are_told_from_others() {
    let text = "`s1_2_a_b` and `sync` or `s1_x`, `s3_10_c`";
    assert_eq!(semantic_names(text), ["s1_2_a_b", "s3_10_c"]);
    assert_eq!(semantic_number("s12_3_claim").as_deref(), Some("12.3"));
    assert_eq!(semantic_number("s1_2"), None);
    assert!(point_fault("A claim alone.").is_some());
    assert!(point_fault("Deviation: other.\n  Reason: better.").is_none());
    assert!(point_fault("Deviation: other.").is_some());
    assert!(point_fault("JavaScript only: dates.").is_none());
    assert!(point_fault("A claim.\n  `s1_2_a_b`").is_none());
}
