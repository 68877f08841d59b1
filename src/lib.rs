//! An embedded, log-structured storage engine for millions of small transactional objects.
//!
//! An object is a private, ordered key-value space with one writer: the storage of one actor,
//! session, room or cart. Each object commits by itself, and all objects of a store share one log
//! and one set of files. So a new object costs no file, no descriptor and no sync of its own, many
//! commits share one sync, an idle object takes no memory, and a store opens in the time that the
//! tail of its log takes, however many objects it holds.
//!
//! # Examples
//!
//! ```
//! # fn main() -> dostore::error::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("data");
//! use dostore::store::Store;
//!
//! let store = Store::open(path)?;
//! let mut lobby = store.namespace("rooms")?.open_by_name("lobby")?;
//! lobby.put("topic", "rust")?.wait()?; // Durable from here on.
//! assert_eq!(lobby.get("topic")?.as_deref(), Some(&b"rust"[..]));
//! # drop(lobby);
//! # store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! * [`Store`](store::Store): a folder, open for writing by this process alone. It owns a few
//!   threads, none of them for an object. [`Options`](store::Options) says how it is opened.
//! * [`Namespace`](store::namespace::Namespace): a set of objects, which it opens, lists and
//!   deletes by id or by name. Ids are derived from names or drawn at random, and prove their
//!   namespace.
//! * [`Object`](store::object::Object): the one handle that may change an object. Its reads see
//!   everything committed through it, durable or not.
//! * [`Turn`](store::turn::Turn): changes of one object that commit together, with savepoints.
//!   Dropping it changes nothing.
//! * [`Commit`](store::commit::Commit): a turn that is ordered and applied. As a future of any
//!   runtime, or by waiting, it tells when the turn survives any crash.
//! * [`Snapshot`](store::snapshot::Snapshot): an object at one moment, shown only when that is
//!   durable, but to the object's own actor.
//! * [`Reader`](store::reader::Reader): a store that another process may have open, read without a
//!   lock and without writing.
//! * [`Bookmark`](bookmark::Bookmark): a moment of an object, to read ([`store::past`]), to list
//!   commits from ([`store::history`]) and to restore ([`store::restore`]), for as long as its
//!   [`Retention`](retention::Retention) says.
//! * [`Alarms`](store::alarms::Alarms): wake-ups of objects, at least once, over any crash.
//! * [`Storage`](actor::Storage): an object as the code of an actor sees it: what one poll of a
//!   future writes is one commit, what leaves waits at a gate, and critical sections run alone.
//! * [`Host`](actor::host::Host): actors that come into memory with their first message, answer
//!   when it is durable, and leave when they are idle.
//! * [`store::backup`] and [`store::transfer`]: a copy of a store as of one commit; objects as
//!   streams; what can be had of a damaged store.
//! * [`Error`](error::Error): one type, with a [kind](error::ErrorKind) that says what to do, a
//!   stable code, and the file and byte concerned where there is one.
//!
//! [`inspect`] checks a store from outside. [`disk::sim`] is a simulated machine with faults and
//! power cuts, for tests of the code that uses a store: open one on it with
//! [`Options::open_on`](store::Options::open_on).
//!
//! In the repository, `docs/actors.md` tells how a runtime is built on this, `docs/history.md` how
//! the past is read and restored, `docs/guarantees.md` what is promised and what is not,
//! `docs/operating.md` how a store is run and what each error means, and `docs/glossary.md` what
//! the words mean.
//!
//! # What it deliberately does not do
//!
//! * No transaction over two objects: an object is the unit of consistency.
//! * No two handles on one object, and no two writing processes on one store.
//! * No server, no placement, no replication. The store calls nothing back and runs none of its
//!   caller's code in its threads, but for the wakers of futures and an actor host's own pool.
//! * No acknowledgement before a sync, and no setting that would allow one.
//! * No second try of a sync that failed, and no repair by leaving out what is damaged.
//! * No logging: what happened is in errors, in [`Stats`](store::Stats) and in the
//!   [report](store::RecoveryReport) of an open.
//! * No platform but 64-bit little-endian Unix.
//!
//! # Features
//!
//! All are off by default.
//!
//! * `cli`: the `dostore` binary, which looks into stores: see `docs/cli.md`.
//! * `admin`: [`Options::admin`](store::Options::admin) lets operators change a store while it is
//!   open, through a socket in its folder.
//! * `json`, `msgpack`: typed values of actors, in `actor::typed`.
//! * `tokio`: lets the [actor host](actor::host) run on a tokio runtime.

#[cfg(not(all(target_pointer_width = "64", target_endian = "little", unix)))]
compile_error!("dostore runs on 64-bit little-endian Unix only");

// Layer 0: words.
pub mod alarm;
pub mod bookmark;
pub mod error;
pub mod ids;
pub mod limits;
#[doc(hidden)]
pub mod locks;
#[doc(hidden)]
pub mod marks;
pub mod names;
pub mod object_id;
pub mod options;
#[doc(hidden)]
pub mod planted;
pub mod retention;
pub(crate) mod wakes;

// Layer 1: bytes and media.
pub mod disk;
#[doc(hidden)]
pub mod format;

// Layer 2: structures.
#[doc(hidden)]
pub mod directory;
#[doc(hidden)]
pub mod manifest;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod segment;
#[doc(hidden)]
pub mod wal;

// Layer 3: one object.
#[doc(hidden)]
pub mod object;

// Layer 4: all objects; and beside them, a store from outside.
#[doc(hidden)]
pub mod engine;
pub mod inspect;

// Layer 5: the interface.
pub mod store;

// Layer 6: actors.
pub mod actor;

// The binary.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

// The example of the front page compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

// And those of the documents.
#[cfg(doctest)]
#[doc = include_str!("../docs/history.md")]
mod history {}
#[cfg(all(doctest, feature = "json"))]
#[doc = include_str!("../docs/actors.md")]
mod actors {}
