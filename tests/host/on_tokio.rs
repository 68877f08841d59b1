//! The host on a tokio runtime: its tasks run there, and a runtime that goes away leaves nobody
//! waiting.

use super::stage::*;
use dostore::actor::host::{Class, Host, Tokio};
use dostore::store::Store;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

fn start(store: &Store, tools: &Arc<Tools>) -> (Host, Class<Script>) {
    let host = Host::builder(store).spawner(Tokio::current()).start().unwrap();
    let class = scripts(&host, "rooms", tools);
    (host, class)
}

#[test]
fn objects_live_on_the_runtime_that_the_host_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tools = Arc::<Tools>::default();
    let runtime = runtime();
    runtime.block_on(async {
        let (host, class) = start(&store, &tools);
        let (rang, ringing) = tokio::sync::oneshot::channel();
        let mut rang = Some(rang);
        *tools.on_alarm.lock() = Some(Box::new(move |context, _| {
            context.storage().put("rang", "1")?;
            // Not on the runtime there would be none here.
            let _ = (Handle::current(), rang.take().map(|rang| rang.send(())));
            Ok(())
        }));
        let replies: Vec<_> =
            (0..200).map(|n| class.send(&format!("{}", n % 10), add(1))).collect();
        for (number, reply) in (0..).zip(replies) {
            assert_eq!(reply.await.unwrap(), number / 10 + 1);
        }
        assert_eq!(tools.starts.load(Ordering::Relaxed), 10);
        let set = class.send(
            "0",
            alone(|context| async move {
                assert!(Handle::try_current().is_ok());
                context.storage().set_alarm(Duration::ZERO)?;
                Ok(0)
            }),
        );
        set.await.unwrap();
        ringing.await.unwrap();
        host.close().await;
        assert_eq!(class.active(), 0);
    });
    let rooms = store.namespace("rooms").unwrap();
    assert!(rooms.open_by_name("0").unwrap().get("rang").unwrap().is_some(), "given back");
    drop(rooms);
    store.close().unwrap();
}

#[test]
fn a_runtime_that_goes_away_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tools = Arc::<Tools>::default();
    let runtime = runtime();
    let (host, class) = runtime.block_on(async { start(&store, &tools) });
    assert_eq!(class.send("lobby", add(1)).wait().unwrap(), 1);
    let begun = class.send("lobby", wait_for(&Signal::default()));
    let queued = class.send("lobby", add(1));
    drop(runtime);
    let after = class.send("cellar", add(1));
    for reply in [begun, queued, after] {
        assert_eq!(code(&reply.wait().unwrap_err()), "actor.dropped");
    }
    host.close().wait();
}
