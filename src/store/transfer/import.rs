//! A stream to objects.
//!
//! An object that fits a commit is one commit. A larger one takes several: the first marks the
//! object as unfinished, the last takes the mark away, and nobody opens or reads it in between.
//!
//! Invariants:
//!   * An object is marked in its first commit, if there is to be a second.
//!   * While an object is imported this holds its one handle.

use super::Stream;
use crate::alarm::Alarm;
use crate::error::{Error, Result};
use crate::format::alarm::{alarm_key, entry_of, failure_key};
use crate::format::export::Item;
use crate::format::own_keys::{IMPORT_KEY, VERSION_KEY};
use crate::format::record::Operation;
use crate::ids::{Codec, Lsn, ObjectId};
use crate::limits::check_name;
use crate::object::write_set::WriteSet;
use crate::store::Store;
use crate::store::namespace::Namespace;
use crate::store::object::Object;
use crate::store::objects::info_of;
use crate::store::value::FullKey;
use std::io::Read;

/// Bytes of commits that are not waited for.
const UNWAITED_BYTES: u64 = 8 << 20;
/// Namespaces that an import creates if nothing else is said.
const NEW_NAMESPACES: usize = 1024;

/// What becomes of an object that has content already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// The import fails, and the object is as it was.
    #[default]
    Refuse,
    /// It is deleted, alarms included, in the commit in which the import of it begins.
    Replace,
    /// It stays as it is, and what the stream has of it is passed over: so an import that was
    /// interrupted goes on.
    Keep,
}

/// How a stream is imported.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ImportOptions {
    existing: Existing,
    new_namespaces: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { existing: Existing::default(), new_namespaces: NEW_NAMESPACES }
    }
}

impl ImportOptions {
    /// Objects that have content are refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of objects that have content. One of which an import was not completed has
    /// none: it is always begun anew.
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// How many namespaces the import may create, 1,024 if this is not said. Namespaces are never
    /// removed, and a store has 65,535 at most: for a stream of unknown origin, allow few or none.
    /// An object in one more fails with `import.namespaces`.
    pub fn new_namespaces(mut self, most: usize) -> Self {
        self.new_namespaces = most;
        self
    }
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Objects imported.
    pub objects: u64,
    /// Objects that took more than one commit.
    pub large_objects: u64,
    /// Objects that had content and were kept.
    pub kept: u64,
    /// Entries imported: keys, alarms, attachments.
    pub items: u64,
    /// The last commit; zero without any. It is durable.
    pub last_lsn: Lsn,
}

impl Store {
    /// Imports a stream of either form into the namespaces that it names. One that is missing is
    /// created when the first object of it comes: see [`ImportOptions::new_namespaces`].
    ///
    /// Each object keeps its id where that is one of the namespace: everywhere for namespaces
    /// without a key of their own, else where the namespace was created with the same key before.
    /// Where it is not, the object with the same name is meant, and one without a name fails with
    /// `import.id`.
    ///
    /// An object that fits the limits of a commit is there whole or not at all. A larger one takes
    /// several commits; cut off in between, it is marked: opening or reading it fails with
    /// `object.unfinished` until it is imported again or deleted, and what it had before is gone if
    /// it was to be replaced. Alarms come last. Memory: at most about four times the limit of a
    /// commit, and three times the largest value.
    ///
    /// Blocks until all of it is durable. On an error, which says at which line or byte, the
    /// objects before that are imported and durable; import again with [`Existing::Keep`] to go on
    /// behind them. Fails with `import.malformed`, `import.checksum` or `import.truncated` for a
    /// stream that is not as it was written, with `import.exists` at an object that has content,
    /// with `object.open` at one that is open, and with `limit` codes for what this store's limits
    /// do not allow.
    pub fn import(&self, input: impl Read, options: ImportOptions) -> Result<Imported> {
        Import::new(self, None, options).run(input)
    }

    /// Imports all objects of a stream into the namespace of this name. One that is missing is
    /// created when the first object comes: a stream of something else leaves none behind.
    pub(crate) fn import_into(
        &self,
        name: &str,
        input: impl Read,
        options: ImportOptions,
    ) -> Result<Imported> {
        Import::new(self, Some(name.to_owned()), options).run(input)
    }
}

impl Namespace {
    /// Imports all objects of a stream into this namespace, whatever namespaces it names; see
    /// [`Store::import`].
    pub fn import(&self, input: impl Read, options: ImportOptions) -> Result<Imported> {
        self.store.import_into(self.name(), input, options)
    }
}

pub(super) struct Import<'s> {
    pub(super) store: &'s Store,
    /// Where everything goes, if that was said.
    only: Option<String>,
    pub(super) namespace: Option<Namespace>,
    /// The namespace that the stream has named, until an object of it comes.
    named: Option<String>,
    /// Namespaces created.
    created: usize,
    options: ImportOptions,
    /// None between objects and in one that is passed over.
    incoming: Option<Incoming>,
    unwaited: u64,
    pub(super) done: Imported,
}

/// An object on its way in.
struct Incoming {
    object: Object,
    changes: WriteSet,
    /// Whether a commit of it is logged.
    is_begun: bool,
    items: u64,
}

impl<'s> Import<'s> {
    pub(super) fn new(store: &'s Store, only: Option<String>, options: ImportOptions) -> Self {
        Self {
            store,
            only,
            namespace: None,
            named: None,
            created: 0,
            options,
            incoming: None,
            unwaited: 0,
            done: Imported::default(),
        }
    }

    fn run(mut self, input: impl Read) -> Result<Imported> {
        let read = self.read(input);
        // Behind an error too: what was imported before it is told to be durable.
        let waited = self.wait();
        read.and(waited).map(|()| self.done)
    }

    fn read(&mut self, input: impl Read) -> Result<()> {
        let mut stream = Stream::new(input)?;
        loop {
            match stream.read()? {
                None => return Ok(()),
                Some(item) => {
                    if let Err(error) = self.take(&item) {
                        return Err(self.placed(&error, &stream.place().0));
                    }
                }
            }
        }
    }

    /// The same error, which says where in the stream it is from.
    #[cold]
    fn placed(&self, error: &Error, place: &str) -> Error {
        let objects = self.done.objects;
        let what = format!("{place}, behind {objects} imported objects: {error}");
        Error::new(error.kind(), error.code(), what).caused_by(error.clone())
    }

    fn take(&mut self, item: &Item<'_>) -> Result<()> {
        match item {
            Item::Namespace(name) => {
                self.named = Some(name.clone().into());
                Ok(())
            }
            Item::Object { id, name } => self.begin(ObjectId(*id), name.as_deref()),
            Item::UserVersion(version) => {
                let key = VERSION_KEY;
                self.put(key, Codec::Raw, &version.to_le_bytes())
            }
            Item::Entry { kind, key, codec, value } => {
                self.store.engine().options.limits.check_pair(key, value)?;
                self.put(&FullKey::of(*kind, key), *codec, value)
            }
            Item::Alarm { name, alarm } => self.put_alarm(name.as_deref(), alarm),
            Item::Failure { name, failure } => {
                let mut value = Vec::new();
                failure.encode(&mut value);
                self.put(&failure_key(name.as_deref()), Codec::Raw, &value)
            }
            Item::EndObject { .. } => self.end(),
            Item::End { .. } => Ok(()),
        }
    }

    /// The namespace of the object that comes. Whatever a stream only names is not created: no
    /// namespace ever goes again.
    fn namespace(&mut self) -> Result<Namespace> {
        if let Some(name) = self.named.take() {
            let name = self.only.clone().unwrap_or(name);
            self.namespace = Some(self.namespace_named(&name)?);
        }
        let before = || Error::invalid("import.malformed", "an object before any namespace");
        self.namespace.clone().ok_or_else(before)
    }

    fn namespace_named(&mut self, name: &str) -> Result<Namespace> {
        if !self.store.engine().has_namespace(name) {
            if self.created >= self.options.new_namespaces {
                let most = self.options.new_namespaces;
                let what =
                    format!("the import may create {most} namespaces, and {name:?} is one more");
                return Err(Error::invalid("import.namespaces", what));
            }
            self.created += 1;
        }
        self.store.namespace(name)
    }

    pub(super) fn begin(&mut self, id: ObjectId, name: Option<&str>) -> Result<()> {
        let namespace = &self.namespace()?;
        let id = resolve(namespace, id, name)?;
        let address = namespace.address(id)?;
        let object = Object::open_to_import(self.store.clone(), address, id, name)?;
        let view = object.view()?;
        let mut changes = WriteSet::new();
        if view.state.life.is_some() {
            let has_content = || Ok(!view.is_unfinished()? && info_of(&view, id)?.is_some());
            match self.options.existing {
                Existing::Keep if has_content()? => {
                    self.done.kept += 1;
                    return Ok(());
                }
                Existing::Refuse if has_content()? => {
                    let what = format!("object {id} has content already");
                    return Err(Error::invalid("import.exists", what));
                }
                // Whatever it is, it goes.
                Existing::Replace | Existing::Keep | Existing::Refuse => {}
            }
            changes.push(object.limits(), &Operation::DeleteAll { keep_alarms: false })?;
        }
        self.incoming = Some(Incoming { object, changes, is_begun: false, items: 0 });
        Ok(())
    }

    pub(super) fn put(&mut self, key: &[u8], codec: Codec, value: &[u8]) -> Result<()> {
        self.push(&Operation::Put { key, codec, value })
    }

    /// A setting of its own: whoever handled the alarm in another store has no say in this one.
    pub(super) fn put_alarm(&mut self, name: Option<&str>, alarm: &Alarm) -> Result<()> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        let alarm = Alarm { generation: incoming.object.next_generation()?, ..*alarm };
        match name {
            None => self.push(&Operation::SetAlarm(alarm)),
            Some(name) => {
                check_name(name)?;
                self.put(&alarm_key(name), Codec::Raw, &entry_of(&alarm))
            }
        }
    }

    fn push(&mut self, operation: &Operation<'_>) -> Result<()> {
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        incoming.items += 1;
        let limits = *incoming.object.limits();
        let pushed = incoming.changes.push(&limits, operation);
        let is_full = |error: &Error| matches!(error.code(), "limit.commit" | "limit.operations");
        match pushed {
            Err(error) if is_full(&error) && !incoming.changes.is_empty() => {}
            pushed => return pushed,
        }
        if !incoming.is_begun {
            incoming.is_begun = true;
            let mark = Operation::Put { key: IMPORT_KEY, codec: Codec::Raw, value: &[] };
            incoming.changes.push_name(&mark);
        }
        let changes = std::mem::take(&mut incoming.changes);
        let logged = incoming.object.log(changes);
        self.store.engine().tell();
        self.done.last_lsn = logged?.lsn;
        incoming.changes.push(&limits, operation)?;
        // So that no more than one commit is in memory, and checkpoints can hold the next back.
        self.wait()
    }

    pub(super) fn end(&mut self) -> Result<()> {
        let Some(Incoming { object, mut changes, is_begun, items }) = self.incoming.take() else {
            return Ok(());
        };
        if is_begun {
            changes.push_name(&Operation::Delete { key: IMPORT_KEY });
            self.done.large_objects += 1;
        }
        self.done.objects += 1;
        self.done.items += items;
        if changes.is_empty() {
            return Ok(());
        }
        self.unwaited += changes.bytes() as u64;
        let logged = object.log(changes);
        self.store.engine().tell();
        self.done.last_lsn = logged?.lsn;
        if self.unwaited > UNWAITED_BYTES { self.wait() } else { Ok(()) }
    }

    pub(super) fn wait(&mut self) -> Result<()> {
        self.unwaited = 0;
        self.store.engine().wait_durable(self.done.last_lsn)
    }
}

/// The id under which an object is imported.
fn resolve(namespace: &Namespace, id: ObjectId, name: Option<&str>) -> Result<ObjectId> {
    let named = name.map(|name| namespace.id_from_name(name));
    let is_own = namespace.id_of(id.short()) == id;
    match named {
        Some(named) if !is_own || named == id => Ok(named),
        None if is_own => Ok(id),
        Some(_) => {
            let what = format!("object {id} has a name that belongs to another id");
            Err(Error::invalid("import.id", what))
        }
        None => {
            let name = namespace.name();
            let what = format!("object {id} is not of namespace {name:?}, and has no name");
            Err(Error::invalid("import.id", what))
        }
    }
}
