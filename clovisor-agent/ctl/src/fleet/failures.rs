//! Failures of the API server, of the way to it, and of many nodes, in few words; pure.

use crate::outcome::{Code, CtlError};
use crate::table::counted;
use clovisor_objects::near::remedy;
use kube::config::KubeconfigError;
use std::collections::BTreeMap;
use std::error::Error;

/// Causes, and nodes of each, that a message names.
const CAUSES: usize = 5;
const NODES: usize = 5;

/// Why a request failed, without the names of the client library's layers.
pub(super) fn why(error: &kube::Error) -> String {
    match error {
        // The API server's own words name verb and resource where rights are missing.
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answers {} {}", status.code, status.reason),
        other => innermost(other),
    }
}

/// The last cause tells what is wrong (a refused connection, a certificate that is not trusted), the layers above it only
/// that something is.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Why a kubeconfig cannot be used, with its path.
pub(super) fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) => format!("kubeconfig {}: {source}", path.display()),
        KubeconfigError::FindPath => "there is no kubeconfig".to_owned(),
        KubeconfigError::Parse(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("the kubeconfig is no YAML: {}", first.trim_start_matches("error: "))
        }
        other => other.to_string(),
    }
}

/// An error about clients of which there is none: the namespace may be misspelt. `namespaces`: those with pods, if they may be seen.
pub(super) fn no_clients(namespace: Option<&str>, selector: Option<&str>, namespaces: &[String]) -> CtlError {
    let has_pods = namespace.is_none_or(|name| namespaces.iter().any(|known| known == name));
    let place = namespace.map_or_else(|| "the cluster".to_owned(), |name| format!("namespace {name}"));
    match selector.filter(|_| has_pods || namespaces.is_empty()) {
        Some(selector) => CtlError::new(
            Code::BadInput,
            format!("no pod of {place} has the labels {selector}"),
            "compare them with `kubectl get pods --show-labels`",
        ),
        None => CtlError::new(
            Code::BadInput,
            format!("{place} has no pod"),
            remedy(namespace.unwrap_or_default(), namespaces.iter().map(String::as_str)),
        ),
    }
}

/// An error about a request to the API server, with what to do.
pub(super) fn refused(server: &str, error: &kube::Error) -> CtlError {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            CtlError::new(Code::NotPermitted, why(error), "use an account that has this right (--context)")
        }
        kube::Error::Api(_) => CtlError { code: Code::Failed, message: why(error), fix: None },
        _ => unreachable(&format!("the API server {server} cannot be asked"), &why(error)),
    }
}

/// An error about the way to the API server.
pub(super) fn unreachable(what: &str, why: &str) -> CtlError {
    let fix = "check KUBECONFIG and --context, and whether `kubectl version` gets an answer from here";
    CtlError::new(Code::NoAgent, format!("{what}: {why}"), fix)
}

/// Nodes that did not answer, by cause, the most frequent one first. `failed`: node and cause.
pub(super) fn summary(failed: &[(String, String)], asked: usize) -> String {
    let mut causes = BTreeMap::<&str, Vec<&str>>::new();
    for (node, why) in failed {
        causes.entry(why).or_default().push(node);
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(why, nodes)| (std::cmp::Reverse(nodes.len()), *why));
    let mut text = format!("{} of {} did not answer", failed.len(), counted(asked, "node"));
    for (why, nodes) in causes.iter().take(CAUSES) {
        let more =
            if nodes.len() > NODES { format!(" and {} more", nodes.len() - NODES) } else { String::new() };
        let named: Vec<_> = nodes.iter().take(NODES).copied().collect();
        text += &format!("\n  {}{more}: {}", named.join(", "), one_line(why));
    }
    if causes.len() > CAUSES {
        text += &format!("\n  and {}", counted(causes.len() - CAUSES, "other cause"));
    }
    text
}

/// A cause that an agent printed may have several lines, and no bound.
fn one_line(why: &str) -> String {
    const LONGEST: usize = 300;
    let words: Vec<_> = why.split_whitespace().collect();
    let text = words.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn two_thousand_silent_nodes_are_one_short_message() {
        let why = "pods \"clovisor-agent\" is forbidden: User \"joe\" cannot create resource \"pods/exec\"";
        let mut failed: Vec<_> = (0..2000).map(|n| (format!("node-{n:04}"), why.to_owned())).collect();
        failed.push(("edge".into(), "no answer in 20 s".into()));
        let text = summary(&failed, 2001);
        let expected = format!(
            "2001 of 2001 nodes did not answer\n  node-0000, node-0001, node-0002, node-0003, node-0004 and 1995 more: \
             {why}\n  edge: no answer in 20 s"
        );
        assert_eq!(text, expected);
        let all_different: Vec<_> = (0..50).map(|n| (format!("n{n}"), "x".repeat(n * 100))).collect();
        let text = summary(&all_different, 50);
        assert!(text.len() < 3000 && text.ends_with("and 45 other causes"), "{text}");
        assert_eq!(
            summary(&[("a".into(), "error: x\n  fix: y".into())], 1),
            "1 of 1 node did not answer\n  a: x fix: y"
        );
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_is_named() {
        let missing = std::io::Error::from_raw_os_error(2);
        let error = KubeconfigError::ReadConfig(missing, "/home/joe/.kube/config".into());
        let expected = "kubeconfig /home/joe/.kube/config: No such file or directory (os error 2)";
        assert_eq!(of_kubeconfig(&error), expected);
    }

    #[test]
    fn clients_of_which_there_is_none_are_said() {
        let known = ["shop".to_owned(), "bank".to_owned()];
        for (namespace, selector, expected) in [
            (Some("shpo"), None, ("namespace shpo has no pod", "did you mean shop?")),
            (Some("shpo"), Some("app=x"), ("namespace shpo has no pod", "did you mean shop?")),
            (Some("shop"), Some("app=x"), ("no pod of namespace shop has the labels app=x", "--show-labels")),
            (None, Some("app=x"), ("no pod of the cluster has the labels app=x", "--show-labels")),
        ] {
            let error = no_clients(namespace, selector, &known);
            assert_eq!(error.message, expected.0);
            assert!(error.fix.is_some_and(|fix| fix.contains(expected.1)), "{namespace:?} {selector:?}");
        }
    }

    #[test]
    fn an_answer_of_the_api_server_is_its_own_words() {
        let status = Status { code: 403, message: "nodes is forbidden".into(), ..Status::default() };
        let error = refused("https://10.0.0.1:6443/", &kube::Error::Api(Box::new(status)));
        assert_eq!((error.code, error.message.as_str()), (Code::NotPermitted, "nodes is forbidden"));
    }

    #[test]
    fn a_dead_api_server_is_named_with_the_cause() {
        let refusal = std::io::Error::from_raw_os_error(111);
        let error = refused("https://10.0.0.1:6443/", &kube::Error::Service(Box::new(refusal)));
        assert_eq!(error.code, Code::NoAgent);
        let expected =
            "the API server https://10.0.0.1:6443/ cannot be asked: Connection refused (os error 111)";
        assert_eq!(error.message, expected);
        assert!(error.fix.is_some_and(|fix| fix.contains("KUBECONFIG")));
    }
}
