//! Objects to a stream.

use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::alarm::{LastFailure, decode_entry};
use crate::format::export::{Item, binary, is_carried, text};
use crate::format::own_keys::VERSION_KEY;
use crate::ids::{KeyKind, Lsn, ObjectId};
use crate::object::range::{Entry, RangeIter};
use crate::store::Store;
use crate::store::namespace::Namespace;
use crate::store::objects::{ObjectInfo, name_of};
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::snapshot::Snapshot;
use std::io::Write;
use std::ops::Bound;

/// Bytes of items from which on a block is written.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes of lines that are written together.
const LINES_BYTES: usize = 64 << 10;

/// How a stream looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line of JSON for each key: to be read, compared and edited. Nothing checks its values.
    Text,
    /// Blocks of items, compressed and with checksums.
    Binary,
}

/// What an export has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Objects.
    pub objects: u64,
    /// Entries of objects: keys, alarms, attachments.
    pub items: u64,
    /// Bytes of the stream.
    pub bytes: u64,
    /// Objects left out, because an import of them was never completed.
    pub unfinished: u64,
}

/// Writes a stream, namespace by namespace and object by object, for whoever chooses what is in it;
/// [`Store::export`] and [`Namespace::export`] choose everything.
///
/// A stream that was not [finished](Exporter::finish) is refused by every import.
pub struct Exporter<W> {
    out: W,
    form: Form,
    /// Lines, or the items of the next block.
    pending: Vec<u8>,
    scratch: Vec<u8>,
    blocks: u64,
    has_namespace: bool,
    /// The namespace to be named before the next object.
    named: Option<String>,
    done: Exported,
}

impl<W> std::fmt::Debug for Exporter<W> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Exporter({:?}, {} objects)", self.form, self.done.objects)
    }
}

#[cold]
fn failed(cause: std::io::Error) -> Error {
    Error::io("writing an export", cause)
}

impl<W: Write> Exporter<W> {
    /// Begins a stream. What is written reaches `out` in pieces; it needs no buffer of its own.
    pub fn new(form: Form, out: W) -> Result<Self> {
        let mut exporter = Self {
            out,
            form,
            pending: Vec::new(),
            scratch: Vec::new(),
            blocks: 0,
            has_namespace: false,
            named: None,
            done: Exported::default(),
        };
        match form {
            Form::Text => {
                exporter.pending.extend_from_slice(text::first_line().as_bytes());
                exporter.pending.push(b'\n');
            }
            Form::Binary => exporter.write(&binary::front())?,
        }
        Ok(exporter)
    }

    /// The objects that follow are of this namespace.
    pub fn namespace(&mut self, name: &str) -> Result<()> {
        self.has_namespace = true;
        self.named = Some(name.to_owned());
        Ok(())
    }

    /// An object begins; before the first of its namespace this is named. One without an object is
    /// not: nothing would be imported into it.
    fn begin(&mut self, object: &Item<'_>) -> Result<()> {
        if let Some(name) = self.named.take() {
            self.put(&Item::Namespace(name.into()))?;
        }
        self.put(object)
    }

    /// Writes an object as the snapshot shows it. Says whether there was anything in it; an object
    /// that holds nothing leaves nothing in the stream. Fails with `export.namespace` before the
    /// first namespace, and with `Corrupt` where the object is damaged: the stream is of no use
    /// then.
    pub fn object(&mut self, id: ObjectId, snapshot: &Snapshot) -> Result<bool> {
        if !self.has_namespace {
            let what = "an export names a namespace before its first object";
            return Err(Error::invalid("export.namespace", what));
        }
        let view = snapshot.view();
        let name = name_of(view)?;
        let begin = Item::Object { id: *id.as_bytes(), name: name.map(Into::into) };
        let mut items = 0;
        for entry in RangeIter::new(view.clone(), None, (Bound::Unbounded, Bound::Unbounded)) {
            let entry = entry?;
            let Some(item) = item_of(&entry).map_err(|fault| damaged(id, &fault))? else {
                continue;
            };
            if items == 0 {
                self.begin(&begin)?;
            }
            items += 1;
            self.put(&item)?;
        }
        if let Some(alarm) = view.alarm()? {
            if items == 0 {
                self.begin(&begin)?;
            }
            items += 1;
            let alarm = crate::alarm::Alarm { generation: Lsn::ZERO, ..alarm };
            self.put(&Item::Alarm { name: None, alarm })?;
        }
        if items == 0 {
            return Ok(false);
        }
        self.done.objects += 1;
        self.done.items += items;
        self.put(&Item::EndObject { items: Some(items) })?;
        Ok(true)
    }

    fn objects(
        &mut self,
        objects: impl Iterator<Item = Result<ObjectInfo>>,
        snapshot: impl Fn(ObjectId) -> Result<Snapshot>,
    ) -> Result<()> {
        for object in objects {
            let object = object?;
            if object.is_unfinished {
                self.done.unfinished += 1;
                continue;
            }
            self.object(object.id, &snapshot(object.id)?)?;
        }
        Ok(())
    }

    /// Reads all of an object, so that writing it does not fail in the middle.
    #[cfg(feature = "cli")]
    pub(crate) fn check(id: ObjectId, snapshot: &Snapshot) -> Result<()> {
        let view = snapshot.view();
        name_of(view)?;
        for entry in RangeIter::new(view.clone(), None, (Bound::Unbounded, Bound::Unbounded)) {
            item_of(&entry?).map_err(|fault| damaged(id, &fault))?;
        }
        Ok(())
    }

    /// Flushes the stream without ending it, so that who reads it is told that something lacks.
    #[cfg(feature = "cli")]
    pub(crate) fn leave(mut self) -> Result<Exported> {
        self.write_pending()?;
        self.out.flush().map_err(failed)?;
        Ok(self.done)
    }

    /// Ends the stream and flushes it. Without this it is incomplete, and says so to who reads it.
    pub fn finish(mut self) -> Result<Exported> {
        self.put(&Item::End { objects: Some(self.done.objects) })?;
        self.write_pending()?;
        self.out.flush().map_err(failed)?;
        Ok(self.done)
    }

    fn put(&mut self, item: &Item<'_>) -> Result<()> {
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        let most = match self.form {
            Form::Text => {
                text::encode(item, &mut encoded);
                encoded.push(b'\n');
                LINES_BYTES
            }
            Form::Binary => {
                binary::encode(item, &mut encoded);
                BLOCK_BYTES
            }
        };
        if self.pending.len() + encoded.len() > most {
            self.write_pending()?;
        }
        self.pending.extend_from_slice(&encoded);
        self.scratch = encoded;
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        match self.form {
            Form::Text => self.write(&pending)?,
            Form::Binary => self.write_block(&pending)?,
        }
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn write_block(&mut self, raw: &[u8]) -> Result<()> {
        let compressed = zstd::bulk::compress(raw, zstd::DEFAULT_COMPRESSION_LEVEL);
        let compressed = compressed.ok().filter(|compressed| compressed.len() < raw.len());
        let is_compressed = compressed.is_some();
        let stored = compressed.as_deref().unwrap_or(raw);
        let bytes = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (raw_bytes, stored_bytes) = (bytes(raw), bytes(stored));
        let header = binary::BlockHeader { raw_bytes, stored_bytes, is_compressed };
        self.write(&header.encode(self.blocks, stored))?;
        self.write(stored)?;
        self.blocks += 1;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.done.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(failed)
    }
}

#[cold]
fn damaged(id: ObjectId, fault: &Malformed) -> Error {
    Error::new(ErrorKind::Corrupt, "export.entry", format!("an entry of object {id}: {fault}"))
}

/// The item that carries an entry; none for what is not exported as it stands, as the name.
fn item_of(entry: &Entry) -> std::result::Result<Option<Item<'_>>, Malformed> {
    let (kind, key) = entry.key.split_first().ok_or(Malformed("a key without its kind"))?;
    let kind = KeyKind::from_byte(*kind).ok_or(Malformed("a key of an unknown kind"))?;
    if is_carried(kind) {
        let value = entry.value[..].into();
        return Ok(Some(Item::Entry { kind, key: key.into(), codec: entry.codec, value }));
    }
    if kind == KeyKind::Meta {
        // Of the store's own words only the user's version means anything elsewhere.
        if *entry.key != *VERSION_KEY {
            return Ok(None);
        }
        let version = <[u8; 8]>::try_from(&entry.value[..]);
        let version = version.map_err(|_| Malformed("the user's version is malformed"))?;
        return Ok(Some(Item::UserVersion(u64::from_le_bytes(version))));
    }
    let (about, name) = key.split_first().ok_or(Malformed("an alarm without its kind"))?;
    let name = std::str::from_utf8(name).map_err(|_| Malformed("a name is not UTF-8"))?;
    match about {
        0 => {
            let alarm = decode_entry(&entry.value)?;
            let alarm = crate::alarm::Alarm { generation: Lsn::ZERO, ..alarm };
            Ok(Some(Item::Alarm { name: Some(name.into()), alarm }))
        }
        1 | 2 => {
            let failure = LastFailure::decode(&entry.value)?;
            let name = (*about == 2).then(|| name.into());
            Ok(Some(Item::Failure { name, failure }))
        }
        _ => Err(Malformed("an entry about alarms of an unknown kind")),
    }
}

impl Store {
    /// Writes every object of every namespace to `out`. Each object is as of one moment; they are
    /// not all of the same one: take a [backup](Store::backup) for that.
    ///
    /// Costs a read of everything, and memory for a few blocks. Blocks; commits go on. Fails with
    /// `Corrupt` at a damaged object, and with `Io` where `out` does; `out` has an incomplete
    /// stream then, which no import takes for a complete one.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> dostore::error::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let (path, other) = (folder.path().join("data"), folder.path().join("other"));
    /// use dostore::store::Store;
    /// use dostore::store::transfer::{Form, ImportOptions};
    ///
    /// let store = Store::open(path)?;
    /// let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
    /// lobby.put("topic", "rust")?.wait()?;
    /// let mut stream = Vec::new();
    /// store.export(Form::Text, &mut stream)?;
    /// let text = String::from_utf8(stream.clone()).unwrap();
    /// assert!(text.contains(r#"{"key":"topic","value":"rust"}"#));
    ///
    /// let other = Store::open(other)?;
    /// let imported = other.import(&stream[..], ImportOptions::new())?;
    /// assert_eq!(imported.objects, 1);
    /// let lobby = other.namespace("rooms")?.open_by_name("lobby")?;
    /// assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn export(&self, form: Form, out: impl Write) -> Result<Exported> {
        let mut exporter = Exporter::new(form, out)?;
        for namespace in self.namespaces() {
            exporter.namespace(namespace.name())?;
            exporter.objects(namespace.objects(), |id| namespace.snapshot(id))?;
        }
        exporter.finish()
    }
}

impl Namespace {
    /// Writes every object of the namespace to `out`, as [`Store::export`] does.
    pub fn export(&self, form: Form, out: impl Write) -> Result<Exported> {
        let mut exporter = Exporter::new(form, out)?;
        exporter.namespace(self.name())?;
        exporter.objects(self.objects(), |id| self.snapshot(id))?;
        exporter.finish()
    }

    /// Writes one object to `out`, as of now. One that holds nothing gives a stream without an
    /// object. Fails with `object.unfinished` where an import of it was not completed.
    pub fn export_object(&self, id: ObjectId, form: Form, out: impl Write) -> Result<Exported> {
        let snapshot = self.snapshot(id)?;
        let mut exporter = Exporter::new(form, out)?;
        exporter.namespace(self.name())?;
        exporter.object(id, &snapshot)?;
        exporter.finish()
    }
}

impl Reader {
    /// Writes every object of every namespace to `out`, all as of this reader's moment. Fails with
    /// an error that can be tried again, from the beginning, where the writer has removed a file:
    /// see [`Reader::read`].
    pub fn export(&self, form: Form, out: impl Write) -> Result<Exported> {
        let mut exporter = Exporter::new(form, out)?;
        for namespace in self.namespaces() {
            namespace.export_to(&mut exporter)?;
        }
        exporter.finish()
    }
}

impl ReaderNamespace {
    /// Writes every object of the namespace to `out`, as [`Reader::export`] does.
    pub fn export(&self, form: Form, out: impl Write) -> Result<Exported> {
        let mut exporter = Exporter::new(form, out)?;
        self.export_to(&mut exporter)?;
        exporter.finish()
    }

    fn export_to<W: Write>(&self, exporter: &mut Exporter<W>) -> Result<()> {
        exporter.namespace(self.name())?;
        exporter.objects(self.objects(), |id| self.snapshot(id))
    }
}
