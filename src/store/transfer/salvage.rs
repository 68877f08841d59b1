//! What can be had of a damaged store, into a new one.
//!
//! Invariants:
//!   * The damaged store is only read.
//!   * Everything goes through commits, as if a user had made them: nothing of the damaged files is
//!     copied as it is.

use super::import::{Import, ImportOptions};
use crate::alarm::Alarm;
use crate::disk::ReadDisk;
use crate::disk::real::RealReadDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::alarm::{decode_entry, entry_of, name_in_key};
use crate::format::own_keys::{NAME_KEY, RESTORE_KEY};
use crate::format::record::Operation;
use crate::ids::{Address, Codec, KeyKind, NamespaceNumber, ObjectId};
use crate::inspect::catalog::Namespace as Known;
use crate::inspect::report::Watch;
use crate::inspect::salvage::{Request, Salvaged, Target, salvage};
use crate::object::write_set::WriteSet;
use crate::object_id::NamespaceKey;
use crate::store::Store;
use crate::store::namespace::Namespace;
use crate::store::object::Object;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes of commits of the log that are not waited for.
const UNWAITED_BYTES: u64 = 8 << 20;

/// How a store is salvaged.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SalvageOptions {
    request: Request,
}

impl SalvageOptions {
    /// Only what is proven.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also what verifies by itself and may be out of date, or may have been deleted since.
    pub fn doubtful(mut self, with_doubtful: bool) -> Self {
        self.request.with_doubtful = with_doubtful;
        self
    }

    /// What the namespace of this number is called, and what its ids are derived with if not with
    /// its name: for a store that has lost its list of namespaces. Names of objects prove it.
    pub fn namespace(mut self, number: u32, name: &str, unique_key: Option<&str>) -> Self {
        let key = NamespaceKey::new(unique_key.unwrap_or(name));
        let known = Known { name: name.to_owned(), key, retention: None };
        self.request.namespaces.insert(NamespaceNumber(number), known);
        self
    }

    /// Who hears how many bytes of pages are to be read, and how many have been.
    pub fn watch(mut self, watch: Arc<dyn Watch + Send + Sync>) -> Self {
        self.request.watch = Some(watch);
        self
    }
}

impl Store {
    /// Puts what can be had of the damaged store in the folder `from` into this one, which must
    /// hold nothing: namespaces with their keys and settings, objects with names, keys, alarms,
    /// attachments and versions, as of the last commit before any damage of the log. History stays
    /// behind. The report says what is lost, and what is doubtful, by object and key range.
    ///
    /// An object of which some key ranges are lost is there with the others. Ids and names are as
    /// they were; LSNs and times are new.
    ///
    /// Costs a read of the damaged store, more than one where its directory is damaged, and commits
    /// for everything. Memory: one object's commit at a time, and what is reported. Fails with
    /// `salvage.target` where this store holds something, with `store.locked` where a process has
    /// the other open, and with `store.missing` where there is none. Damage is no error. What was
    /// salvaged before an error stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let (path, fresh) = (folder.path().join("data"), folder.path().join("fresh"));
    /// use dostore::store::Store;
    /// use dostore::store::transfer::SalvageOptions;
    ///
    /// # let store = Store::open(&path)?;
    /// # store.namespace("rooms")?.open_by_name("lobby")?.put("topic", "rust")?.wait()?;
    /// # store.close()?;
    /// let fresh = Store::open(fresh)?;
    /// let salvaged = fresh.salvage(path, SalvageOptions::new())?;
    /// assert!(salvaged.is_whole());
    /// println!("{salvaged}");
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "options are given away everywhere")]
    pub fn salvage(&self, from: impl AsRef<Path>, options: SalvageOptions) -> Result<Salvaged> {
        let from = from.as_ref();
        let disk = RealReadDisk::open(from).map_err(|cause| {
            let what = format!("opening {}", from.display());
            match cause.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Error::new(ErrorKind::NotFound, "store.missing", what).caused_by(cause)
                }
                _ => Error::io(what, cause),
            }
        })?;
        self.salvage_on(disk, &options)
    }

    /// The same from any disk.
    pub fn salvage_on(
        &self,
        disk: impl ReadDisk + 'static,
        options: &SalvageOptions,
    ) -> Result<Salvaged> {
        if !self.namespaces().is_empty() {
            let what = "what is salvaged goes into a store that holds nothing";
            return Err(Error::invalid("salvage.target", what));
        }
        let disk: Arc<dyn ReadDisk> = Arc::new(disk);
        let import = Import::new(self, None, ImportOptions::new());
        let mut fresh = Fresh { import, namespaces: BTreeMap::new(), unwaited: 0 };
        let salvaged = salvage(&disk, &options.request, &mut fresh);
        fresh.import.wait()?;
        salvaged
    }
}

/// The new store.
struct Fresh<'s> {
    import: Import<'s>,
    namespaces: BTreeMap<NamespaceNumber, Namespace>,
    unwaited: u64,
}

impl Fresh<'_> {
    fn namespace_of(&self, address: Address) -> Result<(Namespace, ObjectId)> {
        let namespace = self.namespaces.get(&address.namespace).cloned();
        let namespace = namespace.ok_or_else(|| {
            let what = format!("an object of namespace {}, which is lost", address.namespace);
            Error::invalid("salvage.target", what)
        })?;
        let id = namespace.id_of(address.id);
        Ok((namespace, id))
    }

    /// Logs changes of an object behind what it has.
    fn log(&mut self, object: &Object, changes: WriteSet) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.unwaited += changes.bytes() as u64;
        let logged = object.log(changes);
        object.store().engine().tell();
        self.import.done.last_lsn = logged?.lsn;
        if self.unwaited > UNWAITED_BYTES {
            self.unwaited = 0;
            self.import.wait()?;
        }
        Ok(())
    }
}

impl Target for Fresh<'_> {
    fn namespace(&mut self, number: NamespaceNumber, known: &Known) -> Result<()> {
        let store = self.import.store;
        let entry = store.engine().namespace(&known.name, Some(&known.key), known.retention)?;
        let namespace = Namespace::new(store.clone(), &known.name, entry);
        self.namespaces.insert(number, namespace);
        Ok(())
    }

    fn begin(&mut self, address: Address, name: Option<&str>) -> Result<()> {
        let (namespace, id) = self.namespace_of(address)?;
        self.import.namespace = Some(namespace);
        self.import.begin(id, name)
    }

    fn entry(&mut self, key: &[u8], codec: Codec, value: &[u8]) -> Result<()> {
        match name_in_key(key).map(|name| (name, decode_entry(value))) {
            Some((name, Ok(alarm))) => self.import.put_alarm(Some(name), &alarm),
            _ => self.import.put(key, codec, value),
        }
    }

    fn alarm(&mut self, alarm: &Alarm) -> Result<()> {
        self.import.put_alarm(None, alarm)
    }

    fn end(&mut self) -> Result<()> {
        self.import.end()
    }

    fn commit(&mut self, address: Address, operations: &[Operation<'_>]) -> Result<()> {
        let (namespace, id) = self.namespace_of(address)?;
        let address = namespace.address(id)?;
        let object = Object::open_to_import(namespace.store.clone(), address, id, None)?;
        let limits = *object.limits();
        let mut changes = WriteSet::new();
        for operation in operations {
            let alarm;
            let operation = match operation {
                // What they speak of is in the history that stays behind.
                Operation::Restored(_) => continue,
                Operation::Put { key, .. } if *key == RESTORE_KEY => continue,
                Operation::Put { key, .. } if *key == NAME_KEY => {
                    changes.push_name(operation);
                    continue;
                }
                Operation::SetAlarm(set) => {
                    &Operation::SetAlarm(Alarm { generation: object.next_generation()?, ..*set })
                }
                Operation::Put { key, codec, value } if key.first() == Some(&ALARM_KIND) => {
                    match name_in_key(key).map(|_| decode_entry(value)) {
                        Some(Ok(set)) => {
                            let generation = object.next_generation()?;
                            alarm = entry_of(&Alarm { generation, ..set });
                            &Operation::Put { key, codec: *codec, value: &alarm }
                        }
                        _ => operation,
                    }
                }
                _ => operation,
            };
            match changes.push(&limits, operation) {
                Err(error) if is_full(&error) && !changes.is_empty() => {
                    self.log(&object, std::mem::take(&mut changes))?;
                    changes.push(&limits, operation)?;
                }
                pushed => pushed?,
            }
        }
        self.log(&object, changes)
    }
}

const ALARM_KIND: u8 = KeyKind::Alarm as u8;

fn is_full(error: &Error) -> bool {
    matches!(error.code(), "limit.commit" | "limit.operations")
}
