//! Follows one kind of objects on the API server.

use super::json::{key, raw};
use super::store::KindEvent;
use clovisor_datapath::causes::causes;
use clovisor_objects::identity::ObjectKind;
use futures_util::StreamExt as _;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

/// Between attempts to reach a server that is away. A kind that the server does not know is asked for less and less
/// often, every half minute at last.
const LONGEST: Duration = Duration::from_secs(5);

/// The name of a kind, and what happened to its objects.
pub(super) type KindMessage = (ObjectKind, KindEvent);

/// Follows one kind.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) kind: ObjectKind,
    pub(super) resource: ApiResource,
    /// Only the pods of this node.
    pub(super) node: String,
    pub(super) events: mpsc::Sender<KindMessage>,
    /// A watch that broke counts as well if it has not broken again for so long.
    pub(super) recovery: Duration,
    /// Asks for another list.
    pub(super) again: Arc<Notify>,
}

impl Follower {
    /// Sends the events of the kind until the receiver is gone.
    pub(super) async fn run(self) {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource);
        let mut config = watcher::Config::default();
        if self.kind == ObjectKind::Pod {
            config = config.fields(&format!("spec.nodeName={}", self.node));
        }
        let begin = || watcher(api.clone(), config.clone());
        let mut stream = pin!(begin());
        // The watcher yields `Init` before each attempt: only an event after it is a success.
        let mut backoff = DefaultBackoff::default();
        let mut last = None;
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = self.again.notified() => {
                    stream.set(begin());
                    continue;
                }
            };
            let Some(event) = event else { return };
            let (event, pause) = match event {
                Ok(event @ Event::Init) => (self.event(event), None),
                Ok(event) => {
                    backoff.reset();
                    last = None;
                    (self.event(event), None)
                }
                Err(error) => {
                    let (event, pause) = (self.failure(&error, &mut last), backoff.next().unwrap_or(LONGEST));
                    let is_absent = matches!(event, KindEvent::Absent);
                    (event, Some(if is_absent { pause } else { pause.min(LONGEST) }))
                }
            };
            if self.events.send((self.kind, event)).await.is_err() {
                return;
            }
            if let Some(pause) = pause {
                sleep(pause).await;
            }
        }
    }

    fn event(&self, event: Event<DynamicObject>) -> KindEvent {
        match event {
            Event::Init => KindEvent::ListBegins,
            Event::InitApply(object) => KindEvent::Listed(raw(self.kind, &object)),
            Event::InitDone => KindEvent::ListEnds,
            Event::Apply(object) => KindEvent::Changed(raw(self.kind, &object)),
            Event::Delete(object) => KindEvent::Deleted(key(&object)),
        }
    }

    /// `last`: the text of the failure before, which is not logged again.
    fn failure(&self, error: &watcher::Error, last: &mut Option<String>) -> KindEvent {
        let text = causes(error);
        let is_new = last.replace(text.clone()).is_none_or(|before| before != text);
        if let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error
            && status.code == 404
        {
            if is_new {
                tracing::info!(
                    kind = self.kind.name(),
                    "the API server does not know this kind; it is asked again, at last every half minute"
                );
            }
            return KindEvent::Absent;
        }
        if is_new {
            // Where permissions are missing, the server's text names verb, resource and user.
            tracing::warn!(kind = self.kind.name(), error = text, "objects not readable, trying again");
        }
        match error {
            watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => {
                KindEvent::Failed(text)
            }
            _ => KindEvent::Interrupted(text, Instant::now() + self.recovery),
        }
    }
}
