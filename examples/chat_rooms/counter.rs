//! How much was said on the whole server.
//!
//! Invariants:
//!   * A room's count only grows, and telling it twice changes nothing: so rooms may tell it after
//!     every message and again after a crash.

use dostore::actor::host::{Actor, Context};
use dostore::error::{Error, Result};
use dostore::store::list::ListOptions;

/// The one object of the class.
pub const NAME: &str = "all";

/// Counts messages.
#[derive(Debug)]
pub struct Counter;

/// What the counter is told or asked.
#[derive(Debug)]
pub enum Message {
    /// A room has had so many messages so far.
    Heard {
        /// The room.
        room: String,
        /// All its messages until now.
        messages: u64,
    },
    /// How many there were in all rooms.
    Total,
}

impl Actor for Counter {
    type Message = Message;
    type Reply = u64;
    type Error = Error;

    async fn handle(&mut self, context: &Context<Self>, message: Message) -> Result<u64> {
        let storage = context.storage();
        if let Message::Heard { room, messages } = message {
            let known = storage.get(&room)?.map_or(0, |value| number(&value));
            if messages > known {
                storage.put(&room, messages.to_le_bytes())?;
            }
            return Ok(messages.max(known));
        }
        let mut total = 0;
        for entry in storage.list(ListOptions::new())? {
            total += number(&entry?.1);
        }
        Ok(total)
    }
}

/// A stored number.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
