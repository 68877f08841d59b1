//! What a request does to a store.
//!
//! Changes come from outside the object: a handle that is open on it is fenced.

use super::{
    BackedUp, Change, Existing, Failure, Figures, Loaded, ManyRestored, Operator, Progress,
    Refusal, Reply, Request, Round, Scrubbed, ScrubbedDamage, Step, Target, When, Which,
};
use crate::bookmark::Bookmark;
use crate::error::{Error, ErrorKind, Result};
use crate::format::own_keys::NAME_KEY;
use crate::format::record::Operation;
use crate::ids::{Codec, KeyKind, Lsn, ObjectId};
use crate::inspect::Watch;
use crate::object::write_set::WriteSet;
use crate::store::backup::BackupOptions;
use crate::store::commit::Position;
use crate::store::namespace::Namespace;
use crate::store::restore::RestoreOptions;
use crate::store::restore_all::{RestoreAll, RestoreProgress, RestoredObject};
use crate::store::transfer::{self, ImportOptions, check_view};
use crate::store::value::FullKey;
use crate::store::{Damaged, Fate, Store};
use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Failures of a restoration of many objects that are told one by one.
const FAILURES_TOLD: usize = 100;
/// Restorations that are not waited for one by one.
const UNWAITED: u64 = 256;

/// Performs a request. What it says is durable when this returns, and readers see it. `operator`
/// hears how far long ones have come, and gives what follows the request.
///
/// Fails with `namespace.missing`, `object.missing` and `key.missing` where there is no such thing,
/// with `restore.none` where an undo finds no restoration, and with the errors of the calls that
/// it stands for.
pub fn perform(store: &Store, request: &Request, operator: &mut dyn Operator) -> Result<Reply> {
    let done = dispatch(store, request, operator)?;
    if !matches!(request, Request::Stats | Request::Backup { .. }) {
        // A reader shows what something later proves durable. It is durable without that, too.
        let _ = store.steps().write_mark();
    }
    Ok(done)
}

fn dispatch(store: &Store, request: &Request, operator: &mut dyn Operator) -> Result<Reply> {
    match request {
        Request::Stats => figures(store),
        Request::Put { of, key, value, codec, create } => {
            let codec = codec.as_deref().map_or(Ok(Codec::Raw), codec_of)?;
            store.engine().options.limits.check_pair(&key.0, &value.0)?;
            let full = FullKey::user(&key.0);
            let put = Operation::Put { key: &full, codec, value: &value.0 };
            if *create {
                make_namespace(store, of)?;
            }
            write(&Found::of(store, of)?, &[put])
        }
        Request::Rm { of, keys } => remove(&Found::of(store, of)?, keys),
        Request::Delete { of } => {
            let found = Found::of(store, of)?;
            found.check_there()?;
            found.changed(found.namespace.delete(found.id)?.wait()?)
        }
        Request::Purge { of } => {
            let found = Found::of(store, of)?;
            found.check_known()?;
            let Position { lsn, time } = found.namespace.purge(found.id)?.wait()?;
            let fenced = found.has_handle;
            Ok(Reply::Changed(Change { lsn: lsn.0, time: time.0, undo: None, fenced }))
        }
        Request::Restore { of, to, alarms } => {
            let found = Found::of(store, of)?;
            found.restore(&found.bookmark(to)?, *alarms)
        }
        Request::Undo { of, alarms } => {
            let found = Found::of(store, of)?;
            found.restore(&found.before_last_restoration()?, *alarms)
        }
        Request::RestoreAll { namespace, time, alarms } => {
            let (time, options) = (time_of(*time), options(*alarms));
            let all = match namespace {
                Some(name) => find(store, name)?.restore_all(time, options),
                None => store.restore_all(time, options),
            };
            restore_all(store, all, operator)
        }
        Request::Fork { of, at, to, alarms } => fork(store, (of, at.as_ref()), to, *alarms),
        Request::Backup { path, verify, copy } => {
            backup(store, path, BackupOptions::new().verify(*verify).link(!copy), operator)
        }
        Request::Compact => compact(store, operator),
        Request::Scrub => scrub(store, operator),
        Request::Load { namespace, existing } => {
            load(store, namespace.as_deref(), *existing, operator)
        }
    }
}

/// A time of the clock from microseconds since 1970.
fn time_of(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

fn options(alarms: bool) -> RestoreOptions {
    RestoreOptions::new().alarms(alarms)
}

fn codec_of(name: &str) -> Result<Codec> {
    Ok(match name {
        "raw" => Codec::Raw,
        "json" => Codec::Json,
        "msgpack" => Codec::MessagePack,
        "cbor" => Codec::Cbor,
        "v8" => Codec::V8,
        _ => {
            let what = format!("{name:?} is no codec: raw, json, msgpack, cbor or v8");
            return Err(Error::invalid("admin.malformed", what));
        }
    })
}

#[cold]
fn missing(code: &'static str, what: String) -> Error {
    Error::new(ErrorKind::NotFound, code, what)
}

/// A namespace that is there: nothing is made by a word that is spelt wrongly.
fn find(store: &Store, name: &str) -> Result<Namespace> {
    let found = store.namespaces().into_iter().find(|namespace| namespace.name() == name);
    found.ok_or_else(|| missing("namespace.missing", format!("there is no namespace {name:?}")))
}

/// Makes the namespace of an object if it is missing, but for none that cannot be in it: an id is
/// of a namespace that was there before.
fn make_namespace(store: &Store, of: &Target) -> Result<()> {
    match (find(store, &of.namespace), &of.object) {
        (Ok(_), _) => Ok(()),
        (Err(missing), Which::Id(_)) => Err(missing),
        (Err(_), Which::Name(name)) => {
            crate::limits::check_name(name)?;
            store.namespace(&of.namespace).map(drop)
        }
    }
}

/// An object that a request names, there or not.
struct Found {
    namespace: Namespace,
    id: ObjectId,
    name: Option<String>,
    /// Whether a handle is open on it, before anything is done.
    has_handle: bool,
}

impl Found {
    fn of(store: &Store, target: &Target) -> Result<Self> {
        let namespace = find(store, &target.namespace)?;
        let (id, name) = match &target.object {
            Which::Id(hex) => (namespace.id_from_hex(hex)?, None),
            Which::Name(name) => {
                crate::limits::check_name(name)?;
                (namespace.id_from_name(name), Some(name.clone()))
            }
        };
        let has_handle = store.engine().has_handle(namespace.address(id)?);
        Ok(Self { namespace, id, name, has_handle })
    }

    #[cold]
    fn missing(&self) -> Error {
        let (namespace, id) = (self.namespace.name(), self.id.to_string());
        let object = self.name.as_deref().unwrap_or(&id);
        missing("object.missing", format!("there is no object {object:?} in {namespace:?}"))
    }

    /// That the object has content, that of an import that was not completed included.
    fn check_there(&self) -> Result<()> {
        let view = self.namespace.store.engine().view(self.namespace.address(self.id)?)?;
        let found = crate::store::objects::info_of(&view, self.id)?;
        found.map(drop).ok_or_else(|| self.missing())
    }

    /// That the object was ever there.
    fn check_known(&self) -> Result<()> {
        let view = self.namespace.store.engine().view(self.namespace.address(self.id)?)?;
        if view.state.last_lsn == Lsn::ZERO { Err(self.missing()) } else { Ok(()) }
    }

    fn bookmark(&self, when: &When) -> Result<Bookmark> {
        match when {
            When::Bookmark(text) => text.parse(),
            When::Time(micros) => self.namespace.bookmark_at(self.id, time_of(*micros)),
        }
    }

    fn before_last_restoration(&self) -> Result<Bookmark> {
        for entry in self.namespace.history(self.id, ..)?.rev() {
            let entry = entry?;
            if entry.restored.is_some_and(|from| !from.is_fork) {
                return self.before(entry.bookmark.lsn());
            }
        }
        let what = "no restoration of the object is in its history: there is nothing to undo";
        Err(missing("restore.none", what.to_owned()))
    }

    /// The moment right before a commit of the object.
    fn before(&self, lsn: Lsn) -> Result<Bookmark> {
        let address = self.namespace.address(self.id)?;
        Ok(self.namespace.store.engine().bookmark(address, Lsn(lsn.0 - 1)))
    }

    fn restore(&self, to: &Bookmark, alarms: bool) -> Result<Reply> {
        let restored = self.namespace.restore_with(self.id, to, options(alarms))?;
        self.changed(restored.commit.wait()?)
    }

    fn changed(&self, Position { lsn, time }: Position) -> Result<Reply> {
        let undo = self.namespace.history_from().map(|_| self.before(lsn)).transpose()?;
        let undo = undo.map(|bookmark| bookmark.to_string());
        let fenced = self.has_handle;
        Ok(Reply::Changed(Change { lsn: lsn.0, time: time.0, undo, fenced }))
    }
}

/// Commits changes of an object from outside it.
fn write(found: &Found, operations: &[Operation<'_>]) -> Result<Reply> {
    let engine = found.namespace.store.engine();
    let address = found.namespace.address(found.id)?;
    let view = engine.view(address)?;
    check_view(&view)?;
    let mut changes = WriteSet::new();
    for operation in operations {
        changes.push(&engine.options.limits, operation)?;
    }
    if let Some(name) = found.name.as_deref().filter(|_| !view.state.named) {
        let value = name.as_bytes();
        changes.push_name(&Operation::Put { key: NAME_KEY, codec: Codec::Raw, value });
    }
    let grant = engine.commit_from_outside(address, changes)?;
    engine.wait_durable(grant.lsn)?;
    found.changed(Position { lsn: grant.lsn, time: grant.time })
}

fn remove(found: &Found, keys: &[super::Bytes]) -> Result<Reply> {
    let snapshot = found.namespace.snapshot(found.id)?;
    let mut full = Vec::new();
    for key in keys {
        if snapshot.get(&key.0)?.is_none() {
            let what = format!("the object has no key {:?}", String::from_utf8_lossy(&key.0));
            return Err(missing("key.missing", what));
        }
        full.push(FullKey::of(KeyKind::User, &key.0));
    }
    let operations: Vec<_> = full.iter().map(|key| Operation::Delete { key }).collect();
    write(found, &operations)
}

fn fork(
    store: &Store,
    (of, at): (&Target, Option<&When>),
    to: &Target,
    alarms: bool,
) -> Result<Reply> {
    let (from, to) = (Found::of(store, of)?, Found::of(store, to)?);
    let bookmark = if let Some(when) = at {
        from.bookmark(when)?
    } else {
        from.check_there()?;
        from.namespace.current_bookmark(from.id)?
    };
    let (namespace, options) = (&to.namespace, options(alarms));
    let forked = match &to.name {
        Some(name) => from.namespace.fork_by_name(from.id, &bookmark, namespace, name, options),
        None => from.namespace.fork(from.id, &bookmark, namespace, to.id, options),
    };
    to.changed(forked?.wait()?)
}

fn restore_all(store: &Store, mut all: RestoreAll, operator: &mut dyn Operator) -> Result<Reply> {
    let before = store.engine().wal.end().time;
    let (mut done, mut last) = (ManyRestored::default(), Lsn::ZERO);
    while let Some(next) = all.next() {
        let RestoredObject { namespace, id, restored } = match next {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if done.lost.len() < FAILURES_TOLD {
                    done.lost.push(Refusal::of(&error));
                }
                continue;
            }
            next => next?,
        };
        match restored {
            Ok(restored) => {
                let Position { lsn, time } = restored.commit.position();
                if last == Lsn::ZERO && time > before {
                    done.undo = Some(time.0 - 1);
                }
                last = lsn;
                if all.progress().restored.is_multiple_of(UNWAITED) {
                    store.wait_durable(last)?;
                }
            }
            Err(error) if done.failures.len() < FAILURES_TOLD => {
                let object = Which::Id(id.to_string());
                let of = Target { namespace: namespace.name().to_owned(), object };
                done.failures.push(Failure { of, why: Refusal::of(&error) });
            }
            Err(_) => {}
        }
        let RestoreProgress { looked_at, restored, failed, .. } = all.progress();
        let progress = Progress { looked_at, restored, failed, ..Progress::default() };
        if !operator.hear(&progress) {
            store.wait_durable(last)?;
            let what = format!("ended after {looked_at} objects; {restored} of them are restored");
            return Err(Error::new(ErrorKind::Aborted, "admin.ended", what));
        }
    }
    store.wait_durable(last)?;
    let RestoreProgress { looked_at, restored, failed, .. } = all.progress();
    (done.looked_at, done.restored, done.failed) = (looked_at, restored, failed);
    Ok(Reply::RestoredAll(done))
}

fn figures(store: &Store) -> Result<Reply> {
    let open_for = store.engine().clock.uptime();
    Ok(Reply::Stats(Box::new(Figures {
        process: std::process::id(),
        durable: store.durable().0,
        open_for: u64::try_from(open_for.as_micros()).unwrap_or(u64::MAX),
        stats: store.stats()?,
    })))
}

/// An operator who hears how many bytes are done.
struct Listener<'o>(RefCell<(&'o mut dyn Operator, Progress)>);

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Listener")
    }
}

impl Watch for Listener<'_> {
    fn expect(&self, bytes: u64) {
        self.0.borrow_mut().1 = Progress { bytes_of: bytes, ..Progress::default() };
    }

    fn pass(&self, bytes: u64) {
        let (operator, progress) = &mut *self.0.borrow_mut();
        progress.bytes += bytes;
        // Half a backup is of no use: whoever goes away finds it complete.
        operator.hear(progress);
    }
}

fn backup(
    store: &Store,
    path: &str,
    options: BackupOptions,
    operator: &mut dyn Operator,
) -> Result<Reply> {
    let path = Path::new(path);
    if !path.is_absolute() {
        let what = "the backup's folder must be told by an absolute path";
        return Err(Error::invalid("backup.target", what));
    }
    let listener = Listener(RefCell::new((operator, Progress::default())));
    let made = store.backup_watched(path, options, &listener)?;
    let faults = made.verified.map(|report| report.fault_count());
    Ok(Reply::BackedUp(BackedUp {
        lsn: made.position.lsn.0,
        time: made.position.time.0,
        kept: made.files_kept,
        linked: made.files_linked,
        copied: made.files_copied,
        copied_bytes: made.bytes_copied,
        faults,
    }))
}

fn compact(store: &Store, operator: &mut dyn Operator) -> Result<Reply> {
    let before = store.stats()?.disk_bytes();
    let run = store.steps();
    let mut steps = Vec::new();
    for step in Step::ALL {
        operator.hear(&Progress { step: Some(step), ..Progress::default() });
        let did = match step {
            Step::Checkpoint => run.checkpoint()?,
            Step::Clean => run.clean()?,
            Step::Merge => run.merge()?,
            Step::Expire => run.expire()?,
        };
        steps.extend(did.then_some(step));
    }
    run.remove_retired()?;
    Ok(Reply::Compacted(Round { steps, bytes: [before, store.stats()?.disk_bytes()] }))
}

fn scrub(store: &Store, operator: &mut dyn Operator) -> Result<Reply> {
    let mut is_wanted = true;
    let report = store.engine().scrub_while(|bytes, bytes_of| {
        is_wanted = operator.hear(&Progress { bytes, bytes_of, ..Progress::default() });
        is_wanted
    })?;
    if !is_wanted {
        let what = format!("ended after {} bytes; what is rebuilt stays so", report.bytes);
        return Err(Error::new(ErrorKind::Aborted, "admin.ended", what));
    }
    let told = |damaged: &Damaged| {
        let (fate, why) = match &damaged.fate {
            Fate::Rebuilt => ("rebuilt", None),
            Fate::Left(why) => ("left", Some(why.to_string())),
            Fate::Told => ("told", None),
            Fate::Spare => ("spare", None),
        };
        ScrubbedDamage { what: damaged.error.to_string(), fate: fate.to_owned(), why }
    };
    Ok(Reply::Scrubbed(Scrubbed {
        files: report.files,
        bytes: report.bytes,
        damages: report.damages.iter().map(told).collect(),
        untold: report.untold,
        has_losses: report.has_losses(),
    }))
}

fn load(
    store: &Store,
    namespace: Option<&str>,
    existing: Existing,
    operator: &mut dyn Operator,
) -> Result<Reply> {
    let options = ImportOptions::new().existing(match existing {
        Existing::Refuse => transfer::Existing::Refuse,
        Existing::Replace => transfer::Existing::Replace,
        Existing::Keep => transfer::Existing::Keep,
    });
    let imported = match namespace {
        Some(name) => store.import_into(name, operator.stream(), options)?,
        None => store.import(operator.stream(), options)?,
    };
    let (objects, kept, items) = (imported.objects, imported.kept, imported.items);
    Ok(Reply::Loaded(Loaded { objects, kept, items }))
}
