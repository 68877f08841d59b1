//! How fast one person may speak: a bucket of tokens for each.
//!
//! Invariants:
//!   * The bucket is kept without waiting for it to be durable: after a crash a few tokens come
//!     back, which is no harm, and no message waits for two syncs.

use dostore::actor::host::{Actor, Context};
use dostore::error::{Error, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A bucket of tokens.
#[derive(Debug)]
pub struct Limiter {
    tokens: f64,
    filled: Duration,
    settings: Settings,
}

/// How a bucket fills.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Tokens that a bucket holds.
    pub burst: f64,
    /// Tokens that come back in a second.
    pub per_second: f64,
}

impl Limiter {
    /// The bucket as it was left; full for somebody new.
    pub fn load(context: &Context<Self>, settings: Settings) -> Result<Self> {
        let stored = context.storage().get("bucket")?;
        let parts = stored.as_ref().and_then(|value| value.split_first_chunk::<8>());
        let Some((tokens, filled)) = parts else {
            return Ok(Self { tokens: settings.burst, filled: now(), settings });
        };
        let filled = Duration::from_micros(super::counter::number(filled));
        Ok(Self { tokens: f64::from_le_bytes(*tokens), filled, settings })
    }
}

impl Actor for Limiter {
    /// Somebody wants to speak.
    type Message = ();
    /// Whether he may.
    type Reply = bool;
    type Error = Error;

    async fn handle(&mut self, context: &Context<Self>, (): ()) -> Result<bool> {
        let now = now();
        // A clock that went back fills nothing.
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = passed.mul_add(self.settings.per_second, self.tokens);
        self.tokens = self.tokens.min(self.settings.burst);
        self.filled = now;
        let may_speak = self.tokens >= 1.0;
        if may_speak {
            self.tokens -= 1.0;
        }
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let bucket = [self.tokens.to_le_bytes(), micros.to_le_bytes()].concat();
        context.storage().put_unconfirmed("bucket", bucket)?;
        Ok(may_speak)
    }
}

/// The time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
