//! Against a scripted server: lists, watches, and everything that goes wrong with them.

use super::*;
use bytes::Bytes;
use clovisor_objects::reason::ProblemReason;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body as ClientBody;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

/// A broken watch counts as well again soon.
async fn watch(client: Client, view: View) -> watch::Receiver<Arc<Snapshot>> {
    watch_with(client, view, Duration::from_secs(2)).await
}

type Answer = (u16, Value);
/// Instead of a status: an answer that never ends.
const DRIP: u16 = 0;
type Served = UnsyncBoxBody<Bytes, Infallible>;
type Line = Result<Frame<Bytes>, Infallible>;
type Watches = BTreeMap<String, mpsc::UnboundedSender<Line>>;

/// What the server answers to lists by plural, and the watches that were opened.
#[derive(Clone, Default)]
struct Server {
    lists: Arc<Mutex<BTreeMap<String, Answer>>>,
    watches: Arc<Mutex<Watches>>,
    /// How often each list was asked for.
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: hyper::Request<ClientBody>| {
            let answer = server.answer(request.uri());
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, uri: &hyper::Uri) -> hyper::Response<Served> {
        let plural = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        if uri.query().unwrap_or_default().contains("watch=true") {
            let (lines, stream) = mpsc::unbounded_channel::<Line>();
            self.watches.lock().unwrap_or_else(|e| panic!("{e}")).insert(plural, lines);
            let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(stream);
            return hyper::Response::new(StreamBody::new(stream).boxed_unsync());
        }
        *self.asked.lock().unwrap_or_else(|e| panic!("{e}")).entry(plural.clone()).or_default() += 1;
        let lists = self.lists.lock().unwrap_or_else(|e| panic!("{e}"));
        let (status, body) = lists.get(&plural).cloned().unwrap_or_else(|| (200, list(&[])));
        if status == DRIP {
            // A byte now, and no end.
            let (lines, stream) = mpsc::unbounded_channel::<Line>();
            let _sent = lines.send(Ok(Frame::data("{".into())));
            self.watches.lock().unwrap_or_else(|e| panic!("{e}")).insert(format!("drip {plural}"), lines);
            let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(stream);
            return hyper::Response::new(StreamBody::new(stream).boxed_unsync());
        }
        let mut response = hyper::Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        response
    }

    fn set(&self, plural: &str, answer: Answer) {
        self.lists.lock().unwrap_or_else(|e| panic!("{e}")).insert(plural.into(), answer);
    }

    async fn say(&self, plural: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        eventually("a watch", || {
            let watches = self.watches.lock().unwrap_or_else(|e| panic!("{e}"));
            watches.get(plural).is_some_and(|lines| lines.send(Ok(Frame::data(line.clone().into()))).is_ok())
        })
        .await;
    }
}

impl Server {
    fn asked(&self, plural: &str) -> usize {
        self.asked.lock().unwrap_or_else(|e| panic!("{e}")).get(plural).copied().unwrap_or(0)
    }

    async fn watching(&self, plural: &str) {
        let is_open = || self.watches.lock().unwrap_or_else(|e| panic!("{e}")).contains_key(plural);
        eventually("a watch", is_open).await;
    }

    /// Ends a watch after these bytes.
    fn cut(&self, plural: &str, bytes: &'static str) {
        let open = self.watches.lock().unwrap_or_else(|e| panic!("{e}")).remove(plural);
        let sent = open.map(|lines| lines.send(Ok(Frame::data(bytes.into()))).is_ok());
        assert_eq!(sent, Some(true), "no watch on {plural}");
    }
}

async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, holds).await;
}

async fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::task::yield_now().await;
    }
}

fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items })
}

fn link(name: &str, device: &Value) -> Value {
    json!({
        "apiVersion": "clovisor.io/v1alpha1", "kind": "WanLink",
        "metadata": { "name": name, "resourceVersion": "2" }, "spec": { "device": device },
    })
}

fn failure(code: u16, message: &str) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "x" });
    (code, status)
}

fn saved() -> (tempfile::TempDir, SavedFile) {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let file = SavedFile::in_dir(dir.path());
    (dir, file)
}

fn view(saved: &SavedFile) -> View {
    View::Node { name: "edge-1".into(), saved: saved.clone() }
}

fn devices(snapshot: &Snapshot) -> Vec<(String, String)> {
    snapshot
        .links
        .iter()
        .map(|(name, link)| (name.clone(), link.device.clone().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn objects_are_followed_and_saved() {
    let server = Server::default();
    server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
    // Istio is not installed.
    server.set("virtualservices", failure(404, "the server could not find the requested resource"));
    let (_dir, file) = saved();
    let snapshots = watch(server.client(), view(&file)).await;
    assert_eq!(devices(&snapshots.borrow()), [("s8".into(), "eth0".into())]);
    server.say("wanlinks", "ADDED", &link("s9", &json!("eth1"))).await;
    eventually("the new link", || snapshots.borrow().links.len() == 2).await;
    server.say("wanlinks", "DELETED", &link("s8", &json!("eth0"))).await;
    eventually("the deletion", || snapshots.borrow().links.len() == 1).await;
    eventually("the save", || {
        file.load().is_some_and(|s| devices(&s.snapshot()) == [("s9".into(), "eth1".into())])
    })
    .await;
}

/// Each attempt begins with the watcher's `Init`, which is no success.
#[tokio::test]
async fn a_kind_that_stays_away_is_asked_for_less_and_less() {
    let server = Server::default();
    server.set("virtualservices", failure(404, "the server could not find the requested resource"));
    let (_dir, file) = saved();
    let _snapshots = watch(server.client(), view(&file)).await;
    let first = Instant::now();
    // Pauses of 0.8, 1.6 and 3.2 seconds, and some chance more.
    within(Duration::from_secs(40), "the fourth list", || server.asked("virtualservices") == 4).await;
    let pauses = Duration::from_millis(800 + 1600 + 3200);
    assert!(first.elapsed() > pauses - Duration::from_millis(500), "{:?}", first.elapsed());
}

#[tokio::test]
async fn a_bad_object_costs_itself_and_names_its_field() {
    let server = Server::default();
    server.set("wanlinks", (200, list(&[link("s8", &json!("eth0")), link("s9", &json!(["eth1"]))])));
    let (_dir, file) = saved();
    let snapshots = watch(server.client(), view(&file)).await;
    let snapshot = snapshots.borrow().clone();
    assert_eq!(devices(&snapshot).len(), 1);
    let problem = snapshot.problems.first().map(|p| (p.subject.name(), p.field.to_string()));
    assert_eq!(problem, Some(("s9".to_owned(), "spec.device".to_owned())));
}

#[tokio::test]
async fn without_the_server_the_saved_objects_hold() {
    let (_dir, file) = saved();
    {
        let server = Server::default();
        server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
        let _first = watch(server.client(), view(&file)).await;
        eventually("the save", || file.load().is_some()).await;
    }
    let server = Server::default();
    for (_, _, _, plural) in view(&file).kinds() {
        server.set(plural, failure(503, "the server is starting"));
    }
    let snapshots = watch(server.client(), view(&file)).await;
    assert_eq!(devices(&snapshots.borrow()), [("s8".into(), "eth0".into())]);
    assert!(snapshots.borrow().stale_since.is_some());
    for (_, _, _, plural) in view(&file).kinds() {
        server.set(plural, (200, list(&[])));
    }
    eventually("the server's word", || snapshots.borrow().stale_since.is_none()).await;
    assert_eq!(snapshots.borrow().links.len(), 1, "nothing is deleted for one list");
    eventually("the server's word, twice", || snapshots.borrow().links.is_empty()).await;
}

#[tokio::test]
async fn a_list_that_lacks_half_of_the_objects_deletes_nothing_until_another_one_does() {
    let server = Server::default();
    let links = ["s6", "s7", "s8", "s9"].map(|name| link(name, &json!(name)));
    server.set("wanlinks", (200, list(&links)));
    let (_dir, file) = saved();
    let snapshots = watch(server.client(), view(&file)).await;
    let relist = async || {
        let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
        server.say("wanlinks", "ERROR", &gone).await;
    };
    let doubts = || {
        let problems = snapshots.borrow().problems.clone();
        problems
            .into_iter()
            .filter(|p| p.reason == ProblemReason::Unconfirmed)
            .map(|p| p.message)
            .collect::<Vec<_>>()
    };
    server.set("wanlinks", (200, list(&[])));
    relist().await;
    eventually("the doubt", || doubts().first().is_some_and(|said| said.contains("lacks 4 of 4"))).await;
    assert_eq!(snapshots.borrow().links.len(), 4);
    server.set("wanlinks", (200, list(&links)));
    eventually("another list", || doubts().is_empty()).await;
    assert_eq!(snapshots.borrow().links.len(), 4);
    // One of four is believed, two of three are not at once.
    server.set("wanlinks", (200, list(&links[1..])));
    relist().await;
    eventually("one link less", || snapshots.borrow().links.len() == 3).await;
    assert_eq!(doubts(), Vec::<String>::new());
    server.set("wanlinks", (200, list(&links[3..])));
    relist().await;
    eventually("the doubt", || doubts().first().is_some_and(|said| said.contains("lacks 2 of 3"))).await;
    assert_eq!(snapshots.borrow().links.len(), 3);
    eventually("two lists agree", || snapshots.borrow().links.len() == 1 && doubts().is_empty()).await;
}

#[tokio::test]
async fn missing_rights_are_named() {
    let server = Server::default();
    server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
    let (_dir, file) = saved();
    let snapshots = watch(server.client(), view(&file)).await;
    let text = "wanlinks.clovisor.io is forbidden: User \"agent\" cannot list resource \"wanlinks\"";
    server.set("wanlinks", failure(403, text));
    // The watch ends with an error: the next list is refused.
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
    server.say("wanlinks", "ERROR", &gone).await;
    eventually("the problem", || {
        snapshots.borrow().problems.iter().any(|p| p.message.contains("cannot list"))
    })
    .await;
    assert_eq!(snapshots.borrow().links.len(), 1, "what was known stays");
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let server = Server::default();
    server.set("wanlinks", failure(429, "too many requests, please try again later"));
    let (_dir, file) = saved();
    let (client, view) = (server.client(), view(&file));
    let watching = tokio::spawn(watch(client, view));
    eventually("a second attempt", || server.asked("wanlinks") > 1).await;
    assert!(!watching.is_finished(), "concluded from nothing");
    server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
    let snapshots = watching.await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(devices(&snapshots.borrow()), [("s8".into(), "eth0".into())]);
    assert!(snapshots.borrow().problems.is_empty());
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_and_is_forgotten() {
    let server = Server::default();
    server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
    let (_dir, file) = saved();
    let snapshots = watch(server.client(), view(&file)).await;
    server.watching("wanlinks").await;
    // Half an event and the end of the stream, as when a connection is cut; then a server that is in trouble.
    server.cut("wanlinks", "{\"type\": \"ADD");
    let (_, trouble) = failure(500, "etcdserver: leader changed");
    server.say("wanlinks", "ERROR", &trouble).await;
    let is_told = || snapshots.borrow().problems.iter().any(|p| p.reason == ProblemReason::Unreadable);
    eventually("the break is told", is_told).await;
    eventually("the break is forgotten", || !is_told()).await;
    server.say("wanlinks", "ADDED", &link("s9", &json!("eth1"))).await;
    eventually("the new link", || snapshots.borrow().links.len() == 2).await;
}

#[tokio::test]
async fn a_list_that_never_ends_undoes_nothing() {
    let (_dir, file) = saved();
    {
        let server = Server::default();
        server.set("wanlinks", (200, list(&[link("s8", &json!("eth0"))])));
        let _first = watch(server.client(), view(&file)).await;
        eventually("the save", || file.load().is_some()).await;
    }
    let server = Server::default();
    server.set("wanlinks", (DRIP, Value::Null));
    let snapshots = watch(server.client(), view(&file)).await;
    eventually("the question", || server.asked("wanlinks") > 0).await;
    eventually("another kind's list", || server.asked("virtualservices") > 0).await;
    assert_eq!(devices(&snapshots.borrow()), [("s8".into(), "eth0".into())]);
}
