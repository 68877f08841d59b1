//! A chat server over HTTP and WebSocket whose rooms are objects.
//!
//! A room keeps its messages, knows who is present, answers when what was said is durable, and
//! leaves memory while its sockets stay open. Alarms empty quiet rooms. A limiter for each person
//! and one counter for the whole server are objects too.
//!
//! ```text
//! cargo run --release --example chat_rooms -- [--folder DIR] [--listen ADDRESS]
//! ```
//!
//! Then open the address in two windows of a browser.
//!
//! Invariants:
//!   * No frame leaves the server before everything that it shows survives a crash.
//!   * All that a room must know after a crash or after it left memory is in its storage.

#![expect(clippy::disallowed_methods, reason = "a program, not the engine: it owns its time")]

pub mod counter;
pub mod limiter;
pub mod room;
pub mod server;
pub mod sockets;

use dostore::actor::host::Host;
use dostore::store::Store;
use server::Classes;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

/// A result whose error is a message for whoever runs the program.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: chat_rooms [--folder DIR] [--listen ADDRESS] [--idle MILLISECONDS]
                  [--pace N]

  --folder DIR         where the store is (default: chat-data)
  --listen ADDRESS     where to listen (default: 127.0.0.1:8080; port 0 takes a free one)
  --idle MILLISECONDS  how long a room without anything to do stays in memory (default: 10000)
  --pace N             messages that one person may say in a second (default: 20)";

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Where the store is.
    pub folder: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long an idle room stays in memory.
    pub idle: Duration,
    /// Messages that one person may say in a second.
    pub pace: u32,
}

impl Arguments {
    /// Reads the command line; none where it asks for help.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut arguments = Self {
            folder: PathBuf::from("chat-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            idle: Duration::from_secs(10),
            pace: 20,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{} needs a value", word.display()));
            match word.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--folder") => arguments.folder = value()?.into(),
                Some("--listen") => arguments.listen = value()?.to_string_lossy().parse()?,
                Some("--idle") => {
                    let millis = value()?.to_string_lossy().parse()?;
                    arguments.idle = Duration::from_millis(millis);
                }
                Some("--pace") => arguments.pace = value()?.to_string_lossy().parse()?,
                _ => return Err(format!("unknown argument {}\n\n{USAGE}", word.display()).into()),
            }
        }
        Ok(Some(arguments))
    }
}

/// Serves until `stop` resolves, then lets everything that was taken become durable.
pub async fn run(
    arguments: &Arguments,
    tell: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Outcome<()> {
    let store = Store::open(&arguments.folder)?;
    let host = Host::builder(&store).idle_after(arguments.idle).start()?;
    let per_second = f64::from(arguments.pace);
    let limiter = limiter::Settings { burst: 2.0 * per_second, per_second };
    let classes = Classes::register(&host, limiter)?;
    let listener = TcpListener::bind(arguments.listen).await?;
    tell(listener.local_addr()?);
    server::serve(listener, classes, stop).await?;
    host.close().await;
    Ok(store.close()?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let tell = |address| println!("listening on http://{address}");
    let stop = async {
        // Without a signal to wait for, it serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match run(&arguments, tell, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_rooms: {error}");
            ExitCode::FAILURE
        }
    }
}
