//! A room: what was said in it, who is present, and when it is emptied.
//!
//! In its storage: `next`, the number of the next message; `quiet`, seconds without a word after
//! which it is emptied; `spoken`, when the last word was; each message under `message/` and its
//! number; and one attachment for each socket: the name of whoever is behind it.
//!
//! Invariants:
//!   * An instance holds nothing but its tools: it may leave at any time and misses nothing.
//!   * A frame waits for the turn that made what it shows, and for no later one.

use super::counter::{self, Counter, number};
use super::limiter::now;
use super::sockets::{Frame, SocketId, Sockets};
use dostore::actor::Storage;
use dostore::actor::host::{Actor, Class, Context, Recipient};
use dostore::error::{Error, Result};
use dostore::store::alarms::Fired;
use dostore::store::list::ListOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Messages that an answer has at most, and that somebody who is new is shown.
pub const PAGE: usize = 1000;

/// What a room does with what comes in.
#[derive(Debug)]
pub struct Room {
    sockets: Sockets,
    counter: Recipient<Counter>,
}

/// What comes into a room.
#[derive(Debug)]
pub enum Event {
    /// A socket was opened by somebody who has seen the messages before this number. Answered with
    /// the first page of what he has not seen: he asks for the next when he has that one.
    Joined {
        /// The socket.
        socket: SocketId,
        /// Who is behind it.
        name: String,
        /// The first message not seen yet.
        from: u64,
    },
    /// Somebody said something.
    Said {
        /// The socket that it came by.
        socket: SocketId,
        /// The words.
        text: String,
    },
    /// From now on the room is emptied after so many quiet seconds.
    Quiet(u64),
    /// A socket was closed.
    Left(SocketId),
    /// Somebody asks for messages from this number on.
    Asked(u64),
}

/// A message as it is stored and shown.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// Its place among the room's messages.
    pub number: u64,
    /// Who said it.
    pub from: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The words.
    pub text: String,
}

/// What a room sends to its sockets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Somebody said this.
    Message(Message),
    /// These are present.
    Present(BTreeSet<String>),
    /// The room was quiet for so long that it was emptied.
    Emptied,
    /// What was sent was not taken.
    Refused(String),
}

impl Shown {
    /// As it goes over a socket.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn key(message: u64) -> String {
    format!("message/{message:016x}")
}

impl Room {
    /// An instance. Sockets in the room's storage that are closed, by a crash or while the room was
    /// not in memory, are gone for good, and the others hear of it.
    pub fn load(
        context: &Context<Self>,
        sockets: &Sockets,
        counters: &Class<Counter>,
    ) -> Result<Self> {
        let storage = context.storage();
        let room = Self { sockets: sockets.clone(), counter: counters.recipient(counter::NAME)? };
        let mut has_gone = false;
        for entry in storage.attachments()? {
            let (socket, _) = entry?;
            if !sockets.is_open(&socket) {
                has_gone |= storage.delete_attachment(&socket)?;
            }
        }
        if has_gone {
            room.show_present(storage)?;
        }
        Ok(room)
    }

    /// Sends to every socket of the room.
    fn show(&self, storage: &Storage, shown: &Shown) -> Result<()> {
        let number = match shown {
            Shown::Message(message) => Some(message.number),
            _ => None,
        };
        let frame = Frame { gate: storage.gate(), number, text: shown.to_text().into() };
        for entry in storage.attachments()? {
            self.sockets.send(&entry?.0, frame.clone());
        }
        Ok(())
    }

    fn show_present(&self, storage: &Storage) -> Result<()> {
        let names = storage.attachments()?.map(|entry| Ok(text(&entry?.1)));
        self.show(storage, &Shown::Present(names.collect::<Result<_>>()?))
    }

    fn join(
        &self,
        storage: &Storage,
        socket: SocketId,
        name: &str,
        from: u64,
    ) -> Result<Vec<Message>> {
        storage.put_attachment(&socket, name)?;
        self.show_present(storage)?;
        // Who is new sees the last page; who comes again, all that he missed.
        let newest = stored(storage, "next")?.unwrap_or(0);
        let from = if from > 0 { from } else { newest.saturating_sub(PAGE as u64) };
        messages(storage, from, PAGE)
    }

    /// Writes a message and the time of the next look at the room in one turn.
    fn say(&self, context: &Context<Self>, socket: SocketId, text: String) -> Result<()> {
        let storage = context.storage();
        let Some(name) = storage.attachment(&socket)? else { return Ok(()) };
        let number = stored(storage, "next")?.unwrap_or(0);
        let at = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
        let message = Message { number, from: self::text(&name), at, text };
        storage.put(key(number), serde_json::to_string(&message).unwrap_or_default())?;
        storage.put("next", (number + 1).to_le_bytes())?;
        storage.put("spoken", at.to_le_bytes())?;
        if storage.alarm()?.is_none() {
            storage.set_alarm(quiet(storage)?)?;
        }
        self.show(storage, &Shown::Message(message))?;
        // Nobody waits for the count: what is lost with a crash the next message brings again.
        let room = context.name().unwrap_or_default().to_owned();
        drop(self.counter.send(counter::Message::Heard { room, messages: number + 1 }));
        Ok(())
    }
}

impl Actor for Room {
    type Message = Event;
    type Reply = Vec<Message>;
    type Error = Error;

    async fn handle(&mut self, context: &Context<Self>, event: Event) -> Result<Vec<Message>> {
        let storage = context.storage();
        match event {
            Event::Joined { socket, name, from } => {
                return self.join(storage, socket, &name, from);
            }
            Event::Said { socket, text } => self.say(context, socket, text)?,
            Event::Quiet(seconds) => {
                storage.put("quiet", seconds.to_le_bytes())?;
                storage.set_alarm(quiet(storage)?)?;
            }
            Event::Left(socket) => {
                if storage.delete_attachment(&socket)? {
                    self.show_present(storage)?;
                }
            }
            Event::Asked(from) => return messages(storage, from, PAGE),
        }
        Ok(Vec::new())
    }

    /// The room may have been quiet for long enough. Each message moves the end of that time, but
    /// not the alarm: it looks again when it has fired.
    async fn alarm(&mut self, context: &Context<Self>, _: &Fired) -> Result<()> {
        let storage = context.storage();
        let spoken = Duration::from_millis(stored(storage, "spoken")?.unwrap_or(0));
        let left = spoken.saturating_add(quiet(storage)?).saturating_sub(now());
        if !left.is_zero() {
            return storage.set_alarm(left);
        }
        storage.delete_range("message/".."message0")?;
        self.show(storage, &Shown::Emptied)
    }
}

fn stored(storage: &Storage, key: &str) -> Result<Option<u64>> {
    Ok(storage.get(key)?.map(|value| number(&value)))
}

/// How long a room may be quiet: a week, unless it was told otherwise.
fn quiet(storage: &Storage) -> Result<Duration> {
    Ok(Duration::from_secs(stored(storage, "quiet")?.unwrap_or(7 * 24 * 60 * 60)))
}

fn messages(storage: &Storage, from: u64, limit: usize) -> Result<Vec<Message>> {
    let options = ListOptions::new().prefix("message/").start(key(from)).limit(limit);
    let entries = storage.list(options)?;
    let read = entries.filter_map(|entry| match entry {
        Ok((_, value)) => serde_json::from_slice(&value).ok().map(Ok),
        Err(error) => Some(Err(error)),
    });
    read.collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
