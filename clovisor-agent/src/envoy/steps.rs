//! In which order files change, so that Envoy never reads the name of something that is not there.

use super::cluster::FILE as CLUSTERS;
use super::listener::FILE as LISTENER;
use super::render::resources;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Files of one folder by name.
pub type Files = BTreeMap<String, Value>;

/// One change of a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Replace or create the file, atomically.
    Write { name: String, content: Value },
    /// Delete the file; one that is not there is fine.
    Remove { name: String },
}

/// A change of a folder in three parts, with time for Envoy to read between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Clusters, old and new ones, and what clusters need. Then wait until Envoy has them.
    pub add: Vec<Step>,
    /// Routes, then the listener that names them. Then wait until old connections are gone.
    pub switch: Vec<Step>,
    /// What nothing names any longer.
    pub remove: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.switch.is_empty() && self.remove.is_empty()
    }
}

/// The plan that turns `old` into `new`.
pub fn plan(old: &Files, new: &Files) -> Plan {
    let mut plan = Plan::default();
    let changed = |name: &String, content: &Value| old.get(name) != Some(content);
    for (name, content) in new {
        if name != CLUSTERS && name != LISTENER && !is_route(name) && changed(name, content) {
            plan.add.push(write(name, content.clone()));
        }
    }
    let wanted = new.get(CLUSTERS);
    let union = wanted.map(|wanted| union(old.get(CLUSTERS), wanted));
    if let Some(union) = union.as_ref().filter(|union| old.get(CLUSTERS) != Some(*union)) {
        plan.add.push(write(CLUSTERS, union.clone()));
    }
    // The listener last: Envoy refuses one that names a file that does not exist.
    let routes = new.iter().filter(|(name, _)| is_route(name));
    for (name, content) in routes.chain(new.get_key_value(LISTENER)) {
        if changed(name, content) {
            plan.switch.push(write(name, content.clone()));
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    plan.remove.extend(gone.map(|name| Step::Remove { name: name.clone() }));
    if let Some(wanted) = wanted.filter(|wanted| union.as_ref() != Some(*wanted)) {
        plan.remove.push(write(CLUSTERS, wanted.clone()));
    }
    plan
}

fn is_route(name: &str) -> bool {
    name.starts_with("rds-")
}

fn write(name: &str, content: Value) -> Step {
    Step::Write { name: name.to_owned(), content }
}

/// The wanted clusters, and after them the old ones that are not wanted but may still be named.
fn union(old: Option<&Value>, wanted: &Value) -> Value {
    let mut all = clusters(wanted).to_vec();
    let names: BTreeSet<&str> = clusters(wanted).iter().map(name_of).collect();
    let old = old.map(clusters).unwrap_or_default();
    all.extend(old.iter().filter(|cluster| !names.contains(name_of(cluster))).cloned());
    if all.len() == clusters(wanted).len() { wanted.clone() } else { resources(all) }
}

fn name_of(cluster: &Value) -> &str {
    cluster.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn clusters(file: &Value) -> &[Value] {
    file.get("resources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn files(clusters: &[&str], routes: &[&str]) -> Files {
        let clusters = clusters.iter().map(|name| json!({ "name": name })).collect();
        let mut files =
            Files::from([(CLUSTERS.to_owned(), resources(clusters)), (LISTENER.to_owned(), json!(routes))]);
        files.extend(routes.iter().map(|name| ((*name).to_owned(), json!(name))));
        files
    }

    fn names(steps: &[Step]) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::Write { name, content } if name == CLUSTERS => {
                let names = clusters(content).iter().filter_map(|c| c["name"].as_str());
                format!("clusters {}", names.collect::<Vec<_>>().join(" "))
            }
            Step::Write { name, .. } => name.clone(),
            Step::Remove { name } => format!("-{name}"),
        };
        steps.iter().map(name).collect()
    }

    #[test]
    fn nothing_to_do_is_an_empty_plan() {
        let files = files(&["a"], &["rds-80.json"]);
        assert!(plan(&files, &files).is_empty());
    }

    #[test]
    fn a_fresh_folder_gets_clusters_then_routes_then_the_listener() {
        let plan = plan(&Files::new(), &files(&["a"], &["rds-80.json"]));
        assert_eq!(names(&plan.add), ["clusters a"]);
        assert_eq!(names(&plan.switch), ["rds-80.json", LISTENER]);
        assert!(plan.remove.is_empty());
    }

    #[test]
    fn clusters_come_before_and_go_after_the_routes_that_name_them() {
        let plan = plan(&files(&["a", "b"], &["rds-80.json"]), &files(&["a", "c"], &["rds-81.json"]));
        assert_eq!(names(&plan.add), ["clusters a c b"]);
        assert_eq!(names(&plan.switch), ["rds-81.json", LISTENER]);
        assert_eq!(names(&plan.remove), ["-rds-80.json", "clusters a c"]);
    }

    #[test]
    fn a_new_plan_before_the_removal_still_removes() {
        let plan = plan(
            &files(&["a", "c", "b"], &["rds-80.json", "rds-81.json"]),
            &files(&["a", "c"], &["rds-81.json"]),
        );
        assert!(plan.add.is_empty());
        assert_eq!(names(&plan.switch), [LISTENER]);
        assert_eq!(names(&plan.remove), ["-rds-80.json", "clusters a c"]);
    }
}
