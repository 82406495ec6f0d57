//! Events of the cluster.

use clovisor_datapath::causes::causes;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Characters of a note that the API server takes.
const MAX_NOTE: usize = 1000;

/// Writes Events. One that cannot be written is logged and lost: nothing depends on it.
#[derive(Clone)]
pub struct EventWriter {
    recorder: Recorder,
}

impl EventWriter {
    /// `controller` and `instance` name the writer in its Events.
    #[must_use]
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter { controller: controller.into(), instance: Some(instance.into()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Writes an Event about an object: a warning unless `is_normal`.
    pub async fn publish(
        &self,
        about: &ObjectReference,
        is_normal: bool,
        (action, reason): (&str, &str),
        note: &str,
    ) {
        let event = Event {
            type_: if is_normal { EventType::Normal } else { EventType::Warning },
            reason: reason.into(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: action.into(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(error = causes(&error), "Event not written");
        }
    }
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventWriter").finish_non_exhaustive()
    }
}
