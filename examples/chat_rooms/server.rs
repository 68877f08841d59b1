//! The server: requests and sockets on one side, objects on the other.
//!
//! Invariants:
//!   * A socket has one event on its way at most: whoever speaks faster than his room listens is
//!     held back by TCP.
//!   * A socket whose frame cannot become durable, or who reads too slowly, is closed; whoever is
//!     behind it comes again and asks for what he missed.
//!   * What somebody missed is read page by page, the next one when he has the one before.

use super::Outcome;
use super::counter::{self, Counter};
use super::limiter::{self, Limiter};
use super::room::{self, Event, Room, Shown};
use super::sockets::{Frame, Frames, SocketId, Sockets};
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use dostore::actor::host::{Class, Host, Recipient};
use serde::Deserialize;
use std::future::Future;
use tokio::net::TcpListener;

/// The classes of objects, and the sockets. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Classes {
    rooms: Class<Room>,
    limiters: Class<Limiter>,
    counters: Class<Counter>,
    sockets: Sockets,
}

impl Classes {
    /// Has the host run the three classes.
    pub fn register(host: &Host, pace: limiter::Settings) -> dostore::error::Result<Self> {
        let sockets = Sockets::default();
        let counters = host.class("counters", async |_| Ok(Counter))?;
        let limiters =
            host.class("limiters", move |context| async move { Limiter::load(&context, pace) })?;
        let tools = (sockets.clone(), counters.clone());
        let rooms = host.class("rooms", move |context| {
            let (sockets, counters) = tools.clone();
            async move { Room::load(&context, &sockets, &counters) }
        })?;
        Ok(Self { rooms, limiters, counters, sockets })
    }
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    classes: Classes,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Outcome<()> {
    let routes = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/status", get(status))
        .route("/rooms/{room}/messages", get(messages))
        .route("/rooms/{room}/socket", get(upgrade))
        .with_state(classes);
    tokio::select! {
        served = axum::serve(listener, routes) => Ok(served?),
        () = stop => Ok(()),
    }
}

/// What the caller is told when an object failed.
struct Failed(dostore::error::Error);

impl From<dostore::error::Error> for Failed {
    fn from(error: dostore::error::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let wrong = self.0.kind() == dostore::error::ErrorKind::Invalid;
        let status = if wrong { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, self.0.to_string()).into_response()
    }
}

fn json(value: &serde_json::Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// How many rooms are in memory, and how much was said in all of them.
async fn status(State(classes): State<Classes>) -> Result<Response, Failed> {
    let total = classes.counters.send(counter::NAME, counter::Message::Total).await?;
    let active = classes.rooms.active();
    Ok(json(&serde_json::json!({ "active_rooms": active, "messages": total })))
}

#[derive(Debug, Deserialize)]
struct Since {
    #[serde(default)]
    from: u64,
}

async fn messages(
    State(classes): State<Classes>,
    Path(room): Path<String>,
    Query(since): Query<Since>,
) -> Result<Response, Failed> {
    let messages = classes.rooms.send(&room, Event::Asked(since.from)).await?;
    Ok(json(&serde_json::json!(messages)))
}

#[derive(Debug, Deserialize)]
struct Guest {
    name: String,
    #[serde(default)]
    from: u64,
}

async fn upgrade(
    State(classes): State<Classes>,
    Path(room): Path<String>,
    Query(guest): Query<Guest>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        let (id, frames, cut) = classes.sockets.open();
        let guest_room = (&*room, &guest);
        // Whatever ended it, the room hears that the socket is gone.
        tokio::select! {
            _ = talk(socket, &classes, guest_room, (id, frames)) => {}
            _ = cut => {}
        }
        classes.sockets.close(&id);
        let _ = classes.rooms.send(&room, Event::Left(id)).await;
    })
}

/// What comes over a socket.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Say(String),
    QuietSeconds(u64),
}

/// Carries frames out and requests in, until the socket is closed.
async fn talk(
    mut socket: WebSocket,
    classes: &Classes,
    (room, guest): (&str, &Guest),
    (id, mut frames): (SocketId, Frames),
) -> Outcome<()> {
    let room = classes.rooms.recipient(room)?;
    let limiter = classes.limiters.recipient(&guest.name)?;
    let joined = Event::Joined { socket: id, name: guest.name.clone(), from: guest.from };
    let first = room.send(joined).await?;
    let next = catch_up(&mut socket, &room, first, &mut frames).await?;
    loop {
        let request = tokio::select! {
            Some(frame) = frames.next() => {
                if frame.number.is_none_or(|number| number >= next) {
                    carry(&mut socket, frame).await?;
                }
                continue;
            }
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text),
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error.into()),
            },
        };
        let refused = match request {
            Ok(Request::Say(text)) => {
                if limiter.send(()).await? {
                    room.send(Event::Said { socket: id, text }).await?;
                    continue;
                }
                "you speak too fast"
            }
            Ok(Request::QuietSeconds(seconds)) => {
                room.send(Event::Quiet(seconds)).await?;
                continue;
            }
            Err(_) => "that is no request",
        };
        let text = Shown::Refused(refused.to_owned()).to_text();
        socket.send(Message::Text(text.into())).await?;
    }
}

/// Shows what somebody has missed, page by page. Gives the number of the first message that is
/// still to be shown; it comes, or has come, as a frame.
async fn catch_up(
    socket: &mut WebSocket,
    room: &Recipient<Room>,
    mut page: Vec<room::Message>,
    frames: &mut Frames,
) -> Outcome<u64> {
    let mut next = 0;
    loop {
        let is_last = page.len() < room::PAGE;
        for message in page {
            next = message.number + 1;
            socket.send(Message::Text(Shown::Message(message).to_text().into())).await?;
        }
        if is_last {
            return Ok(next);
        }
        // A message that came as a frame meanwhile is in a page to come.
        while let Some(frame) = frames.next_waiting() {
            if frame.number.is_none() {
                carry(socket, frame).await?;
            }
        }
        page = room.send(Event::Asked(next)).await?;
    }
}

/// Sends a frame as soon as what it shows is durable.
async fn carry(socket: &mut WebSocket, frame: Frame) -> Outcome<()> {
    frame.gate.await?;
    Ok(socket.send(Message::Text((&*frame.text).into())).await?)
}
