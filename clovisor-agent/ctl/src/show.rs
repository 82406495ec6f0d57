//! Documents to text.

use super::table::{age, bytes, counted, table};
use clovisor_objects::printable::printable;
use clovisor_render::api::{ExplainRequest, Explanation, LinkStatus, Problem, Session, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write as _;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) color: bool,
    pub(super) unicode: bool,
}

impl Style {
    fn state(self, good: bool, text: &str) -> String {
        match (self.color, good) {
            (false, _) => text.to_owned(),
            (true, true) => format!("\x1b[32m{text}\x1b[0m"),
            (true, false) => format!("\x1b[31m{text}\x1b[0m"),
        }
    }

    fn mark(self, taken: bool) -> String {
        let text = match (self.unicode, taken) {
            (true, true) => "✓",
            (true, false) => "✗",
            (false, true) => "+",
            (false, false) => "-",
        };
        self.state(taken, text)
    }
}

/// Seconds since an RFC 3339 time.
fn since(time: &str, now: jiff::Timestamp) -> String {
    let then: Option<jiff::Timestamp> = time.parse().ok();
    then.map_or_else(String::new, |then| age(u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)))
}

pub(super) fn links(links: &[LinkStatus], wide: bool, now: jiff::Timestamp) -> String {
    let mut headers =
        vec!["LINK", "DEVICE", "STATE", "FAMILIES", "WANTED", "TX", "RX", "SESSIONS", "SINCE", "REASON"];
    if wide {
        headers.extend(["GATEWAY", "SOURCE", "MTU"]);
    }
    let row = |l: &LinkStatus| {
        let mut row = vec![
            l.name.clone(),
            l.device.clone(),
            l.state.clone(),
            l.usable(),
            l.wanted.clone(),
            bytes(l.tx_bytes),
            bytes(l.rx_bytes),
            l.sessions.to_string(),
            since(&l.since, now),
            l.reason.clone().unwrap_or_default(),
        ];
        if wide {
            row.extend([l.gateways.join(","), l.sources.join(","), l.mtu.to_string()]);
        }
        row
    };
    table(&headers, &links.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn sessions(sessions: &[Session], wide: bool) -> String {
    let mut headers =
        vec!["NAMESPACE", "POD", "SOURCE", "DESTINATION", "CLASS", "LINK", "AGE", "IDLE", "TX", "RX"];
    if wide {
        headers.extend(["ON THE LINK", "TO"]);
    }
    let row = |s: &Session| {
        let mut row = vec![
            s.namespace.clone(),
            s.pod.clone(),
            s.source.clone(),
            s.destination.clone(),
            class(s),
            s.link.clone(),
            age(s.age_seconds),
            age(s.idle_seconds),
            bytes(s.tx_bytes),
            bytes(s.rx_bytes),
        ];
        if wide {
            row.extend([s.translated_source.clone(), s.translated_destination.clone()]);
        }
        row
    };
    table(&headers, &sessions.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn problems(problems: &[Problem]) -> String {
    let mut text = String::new();
    for p in problems {
        let colon = if p.field.is_empty() { "" } else { ": " };
        let line = format!("{} {}: {}{colon}{}: {}", p.kind, p.object, p.reason, p.field, p.message);
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "  {}", printable(&line));
    }
    text
}

/// A document whose strings a terminal may show.
fn shown<T: Serialize + DeserializeOwned + Clone>(document: &T) -> T {
    let escaped = serde_json::to_value(document).map(|mut value| {
        escape(&mut value);
        value
    });
    // What the agent or this tool has made out of strings can be made out of other strings.
    escaped.and_then(serde_json::from_value).unwrap_or_else(|_| document.clone())
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text).into_owned(),
        Value::Array(all) => all.iter_mut().for_each(escape),
        Value::Object(fields) => fields.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn status(status: &Status, style: Style, now: jiff::Timestamp) -> String {
    let status = &shown(status);
    let ready =
        if status.ready { "ready".into() } else { format!("waiting for {}", status.waiting_for.join(", ")) };
    let unmapped = status.pods.iter().filter(|p| p.device.is_none()).count();
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ok = writeln!(text, "{name:<11}{value}");
    };
    let up = since(&status.started, now);
    field("Agent", &format!("{}, version {}, up {up}", style.state(status.ready, &ready), status.version));
    let files = if status.proxies_current { "" } else { ", the proxies' files are being written" };
    field("Policy", &format!("generation {}{files}", status.policy_generation));
    if let Some(time) = &status.stale_since {
        let age = since(time, now);
        field(
            "Objects",
            &style.state(false, &format!("from disk, the API server is not heard since {age} ({time})")),
        );
    }
    let all_up = status.links_up == status.links_total;
    let partial = match status.links_partial {
        0 => String::new(),
        n => format!(", {n} for one address family only"),
    };
    let links = format!("{} of {} up{partial}", status.links_up, status.links_total);
    field("Links", &style.state(all_up, &links));
    field("Pods", &format!("{}, {unmapped} not steered", status.pods.len()));
    field("Sessions", &status.sessions.to_string());
    let refused = match status.problems.len() {
        0 => style.state(true, "none"),
        n => style.state(false, &n.to_string()),
    };
    field("Problems", &refused);
    text.push_str(&problems(&status.problems));
    for pod in status.pods.iter().filter(|p| p.device.is_none()) {
        let reason = pod.reason.as_deref().unwrap_or_default();
        let _ok = writeln!(text, "  Pod {}/{}: {reason}", pod.namespace, pod.name);
    }
    text.push('\n');
    text.push_str(&details(status));
    text
}

/// What is counted in flows, each of which has two entries, says so.
fn table_name(map: &str) -> String {
    let of_flows = map.starts_with("FLOW") || map.starts_with("UNREPLIED");
    if of_flows { format!("{map} (flows)") } else { map.to_owned() }
}

/// Number and name of a class; sessions outlive their mapping.
pub(super) fn class(session: &Session) -> String {
    match session.class_name.as_str() {
        "" => format!("{} (no mapping any more)", session.class),
        name => format!("{} ({name})", session.class),
    }
}

fn details(status: &Status) -> String {
    let programs: Vec<_> = status
        .attachments
        .iter()
        .map(|a| vec![a.program.clone(), a.device.clone(), a.hook.clone(), a.origin.clone()])
        .collect();
    let maps: Vec<_> = status
        .maps
        .iter()
        .map(|m| vec![table_name(&m.map), m.entries.to_string(), m.capacity.to_string()])
        .collect();
    let counters: Vec<_> = status
        .counters
        .iter()
        .map(|c| vec![c.reason.clone(), c.packets.to_string(), bytes(c.bytes)])
        .collect();
    let parts = [
        table(&["PROGRAM", "DEVICE", "HOOK", "ORIGIN"], &programs),
        table(&["MAP", "ENTRIES", "CAPACITY"], &maps),
        table(&["REASON", "COUNT", "BYTES"], &counters),
    ];
    parts.join("\n")
}

pub(super) fn explanation(request: &ExplainRequest, answer: &Explanation, style: Style) -> String {
    let (request, answer) = (&shown(request), &shown(answer));
    let mut lines = Vec::new();
    let ExplainRequest { method, host, path, namespace, pod, .. } = request;
    let asked = match request.protocol {
        Some(protocol) => ("Packet", format!("{protocol} to {host} from {namespace}/{pod}")),
        None => ("Request", format!("{method} {host}{path} from {namespace}/{pod}")),
    };
    lines.push(asked);
    lines.push(("Service", answer.service.clone().unwrap_or_else(|| "<none>".into())));
    let width = answer.routes.iter().chain(&answer.rules).map(|v| v.name.chars().count()).max().unwrap_or(0);
    for (title, verdicts) in [("Routes", &answer.routes), ("Rules", &answer.rules)] {
        for (i, v) in verdicts.iter().enumerate() {
            let text = format!("{} {:<width$}  {}", style.mark(v.taken), v.name, v.reason);
            lines.push((if i == 0 { title } else { "" }, text));
        }
    }
    lines.push(("Mapping", answer.mapping.clone().unwrap_or_else(|| "<none>".into())));
    let class = answer.class.zip(answer.class_name.as_ref()).map(|(id, name)| format!("{id} ({name})"));
    lines.push(("Class", class.unwrap_or_else(|| "<none>".into())));
    let width = answer.links.iter().map(|l| l.name.chars().count()).max().unwrap_or(0);
    for (i, l) in answer.links.iter().enumerate() {
        let text = format!("{} {:<width$}  {:<8} {}", style.mark(l.chosen), l.name, l.state, l.reason);
        lines.push((if i == 0 { "Links" } else { "" }, text));
    }
    lines.push(("Link", answer.link.clone()));
    lines.push(("Why", answer.reason.clone()));
    for (i, open) in answer.connections.iter().enumerate() {
        let counted = counted(usize::try_from(open.count).unwrap_or(usize::MAX), "open connection");
        let times = match (&open.opened_first, &open.opened_last) {
            (first, last) if first == last => first.clone(),
            (first, last) => format!("{first} to {last}"),
        };
        let reason = open.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        lines.push((
            if i == 0 { "Open" } else { "" },
            format!("{counted} on {}, of {times}{reason}", open.link),
        ));
    }
    for (i, entry) in answer.entries.iter().enumerate() {
        lines.push((if i == 0 { "Kernel" } else { "" }, entry.clone()));
    }
    lines.iter().map(|(title, text)| format!("{title:<10}{text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_render::api::{LinkVerdict, OpenConnections, RouteVerdict};

    #[test]
    fn a_session_without_its_mapping_says_so() {
        let session = |name: &str| {
            let json = serde_json::json!({
                "namespace": "shop", "pod": "client-0", "protocol": "TCP", "source": "", "destination": "",
                "translatedSource": "", "translatedDestination": "", "class": 4, "className": name, "link": "s9",
                "ageSeconds": 1, "idleSeconds": 1, "txBytes": 1, "rxBytes": 1,
            });
            class(&serde_json::from_value(json).unwrap_or_else(|e| panic!("{e}")))
        };
        assert_eq!([session("crew"), session("")], ["4 (crew)", "4 (no mapping any more)"]);
        assert_eq!([table_name("FLOW6"), table_name("SLOTS")], ["FLOW6 (flows)", "SLOTS"]);
    }

    #[test]
    fn what_objects_say_does_not_act_on_the_terminal() {
        let evil = "s9\r\nNODE ok \u{1b}[31m\u{1b}]0;root\u{7}\u{202e}";
        let problem = Problem {
            kind: "WanMapping".into(),
            object: format!("shop/{evil}"),
            field: "spec.links".into(),
            message: format!("no link {evil}"),
            reason: "RuleNotEffective".into(),
        };
        let text = problems(&[problem]);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(|c: char| c.is_control()), "{text}");
        let session = serde_json::json!([evil, {"of": [evil]}, 3]);
        let text = shown(&session).to_string();
        assert!(!text.contains("\\u001b") && text.contains("u{1b}"), "{text}");
        let cells = table(&["LINK"], &[vec![evil.to_owned()]]);
        assert_eq!(cells.lines().count(), 2, "{cells}");
    }

    #[test]
    fn an_explanation_reads_from_request_to_link() {
        let verdict = |name: &str, taken, reason: &str| RouteVerdict {
            name: name.into(),
            taken,
            reason: reason.into(),
        };
        let request = ExplainRequest {
            namespace: "shop".into(),
            pod: "client-0".into(),
            host: "reviews".into(),
            method: "GET".into(),
            path: "/".into(),
            headers: Vec::new(),
            protocol: None,
        };
        let answer = Explanation {
            service: Some("reviews:80".into()),
            routes: vec![verdict("boss", false, "no"), verdict("minions", true, "match[0] holds")],
            rules: Vec::new(),
            mapping: Some("minions".into()),
            class: Some(2),
            class_name: Some("minions".into()),
            links: vec![LinkVerdict {
                name: "s9".into(),
                state: "Up".into(),
                chosen: true,
                reason: "first".into(),
                families: Vec::new(),
            }],
            link: "s9".into(),
            link_by_family: Vec::new(),
            reason: "WanMapping minions targets this route".into(),
            connections: vec![OpenConnections {
                link: "s8".into(),
                count: 2,
                opened_first: "2026-01-01T14:02:00Z".into(),
                opened_last: "2026-01-01T14:02:05Z".into(),
                reason: Some("opened before s9 came up".into()),
            }],
            entries: vec!["CLASSES".into(), "SLOTS".into()],
        };
        let text = explanation(&request, &answer, Style::default());
        let expected = "\
Request   GET reviews/ from shop/client-0
Service   reviews:80
Routes    - boss     no
          + minions  match[0] holds
Mapping   minions
Class     2 (minions)
Links     + s9  Up       first
Link      s9
Why       WanMapping minions targets this route
Open      2 open connections on s8, of 2026-01-01T14:02:00Z to 2026-01-01T14:02:05Z; opened before s9 came up
Kernel    CLASSES
          SLOTS
";
        assert_eq!(text, expected);
    }
}
