//! Processes with mounts of their own, and file systems in files.
//!
//! Invariants:
//!   * Nothing that is mounted here is seen outside, and nothing of it outlives its process.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in a process of a rig: its folder.
const FOLDER: &str = "DOSTORE_REAL_RIG";

/// Runs `body` in a process of its own that may mount: this program again, told to run the test of
/// this name. `body` gets a folder on a small disk in memory, of so many MiB. It needs programs,
/// and devices as `/dev/fuse`.
pub fn run(test: &str, needs: &[&str], mebibytes: u64, body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        mount(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=700"), "none"], folder);
        return body(folder);
    }
    if let Some(why) = obstacle(needs) {
        let is_due = std::env::var_os("CI").is_some_and(|ci| ci == "true") && is_superuser();
        assert!(!is_due, "{test} cannot run here: {why}");
        let told = format!("{test} is left out: {why}\n");
        return std::io::stderr().write_all(told.as_bytes()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(program).args(["--exact", test, "--nocapture"]);
    let done = command.env(FOLDER, folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(done.status.success(), "{}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "{test} names no test");
    print!("{}", said[0]);
}

fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// Why a rig cannot run, if it cannot.
fn obstacle(needs: &[&str]) -> Option<String> {
    if !is_superuser() {
        return Some("it mounts, which only the superuser may".into());
    }
    let (devices, programs): (Vec<&str>, Vec<&str>) =
        needs.iter().partition(|need| need.starts_with("/dev/"));
    let lacks = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    if let Some(missing) = ["unshare", "mount", "umount"].iter().chain(&programs).find(lacks) {
        return Some(format!("there is no program {missing}"));
    }
    let kinds = needs.iter().copied();
    let mut kinds =
        kinds.filter_map(|need| need.strip_prefix("mkfs.").or(need.strip_prefix("/dev/")));
    if let Some(kind) = kinds.find(|kind| !knows(kind)) {
        return Some(format!("the kernel has no {kind}"));
    }
    if let Some(missing) = devices.iter().find(|device| !Path::new(device).exists()) {
        return Some(format!("there is no {missing}"));
    }
    let tried = Command::new("unshare").args(["--mount", "true"]).status().unwrap();
    (!tried.success()).then(|| "this process may not mount".into())
}

/// Whether the kernel knows a file system, or has a module that does.
fn knows(kind: &str) -> bool {
    let is_known = || {
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        known.lines().any(|line| line.split_whitespace().last() == Some(kind))
    };
    is_known() || Command::new("modprobe").arg(kind).output().is_ok() && is_known()
}

/// Runs a program that must succeed.
#[track_caller]
pub fn call(program: &str, arguments: &[&OsStr]) {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
}

fn mount(words: &[&str], at: &Path) {
    let mut arguments: Vec<_> = words.iter().map(OsStr::new).collect();
    arguments.push(at.as_os_str());
    call("mount", &arguments);
}

/// A file system in a file.
#[derive(Debug)]
pub struct Volume {
    pub kind: &'static str,
    /// How it is mounted.
    pub options: &'static str,
    pub image: PathBuf,
    pub at: PathBuf,
}

impl Volume {
    /// What makes one.
    pub fn maker(kind: &str) -> String {
        format!("mkfs.{kind}")
    }

    /// Makes one of so many MiB in a folder, and mounts it in a new one. Of the file only what is
    /// written takes space.
    pub fn make(kind: &'static str, mebibytes: u64, folder: &Path, at: &Path) -> Self {
        Self::make_with("loop", kind, mebibytes, folder, at)
    }

    /// The same, mounted with these options.
    pub fn make_with(
        options: &'static str,
        kind: &'static str,
        mebibytes: u64,
        folder: &Path,
        at: &Path,
    ) -> Self {
        let (image, at) = (folder.join("image"), at.to_owned());
        fs::create_dir(&at).unwrap();
        Self::format(kind, mebibytes, &image, &[]);
        let volume = Self { kind, options, image, at };
        volume.mount();
        volume
    }

    /// Makes a file system of so many MiB in a new file, with more words for what makes it.
    pub fn format(kind: &str, mebibytes: u64, image: &Path, words: &[&str]) {
        fs::File::create_new(image).unwrap().set_len(mebibytes << 20).unwrap();
        let quietly = if kind == "xfs" { "-q" } else { "-qF" };
        let mut words: Vec<_> = words.iter().map(OsStr::new).collect();
        words.extend([OsStr::new(quietly), image.as_os_str()]);
        call(&Self::maker(kind), &words);
    }

    pub fn mount(&self) {
        let image = self.image.to_str().unwrap();
        mount(&["-t", self.kind, "-o", self.options, image], &self.at);
    }

    pub fn unmount(&self) {
        call("umount", &[self.at.as_os_str()]);
    }

    /// Takes the power away: nothing is written any more. With `flushing`, what the file system's
    /// own journal has in memory is written first.
    pub fn cut_power(&self, flushing: bool) {
        // FS_IOC_SHUTDOWN, for which there is no program and no safe call.
        let script = "open(my $at, '<', $ARGV[0]) or die $!; my $how = pack('L', $ARGV[1]);
            ioctl($at, 0x8004587d, $how) or die $!";
        let how = if flushing { "1" } else { "2" };
        call("perl", &["-e".as_ref(), script.as_ref(), self.at.as_os_str(), how.as_ref()]);
    }

    /// Goes on behind a loss of power, as a machine that starts again: nothing is in memory.
    pub fn restart(&self) {
        self.unmount();
        self.mount();
    }
}

/// Fills a disk with a file, to the last byte.
pub fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    for piece in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; piece]).is_ok() {}
    }
    path
}
