//! In which order files change, so that Envoy never reads the name of something that is not there.

use clovisor_render::names::{CLUSTERS_FILE as CLUSTERS, LISTENER_FILE as LISTENER, is_routes_file};
use clovisor_render::namespace::Files;
use clovisor_render::resources::union;

/// One change of a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvoyStep {
    /// Replace or create the file, atomically.
    Write { name: String, content: String },
    /// Delete the file; one that is not there is fine.
    Remove { name: String },
}

/// A change of a folder in three parts, with time for Envoy to read between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnvoyPlan {
    /// Clusters, old and new ones, and what clusters need. Then wait until Envoy has them.
    pub add: Vec<EnvoyStep>,
    /// Routes, then the listener that names them. Then wait until old connections are gone.
    pub switch: Vec<EnvoyStep>,
    /// What nothing names any longer.
    pub remove: Vec<EnvoyStep>,
}

impl EnvoyPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.switch.is_empty() && self.remove.is_empty()
    }
}

/// The plan that turns `old` into `new`.
#[must_use]
pub fn plan(old: &Files, new: &Files) -> EnvoyPlan {
    let mut plan = EnvoyPlan::default();
    let changed = |name: &String, content: &String| old.get(name) != Some(content);
    for (name, content) in new {
        if name != CLUSTERS && name != LISTENER && !is_routes_file(name) && changed(name, content) {
            plan.add.push(write(name, content.clone()));
        }
    }
    let wanted = new.get(CLUSTERS);
    let union = wanted.map(|wanted| union(old.get(CLUSTERS).map_or("", String::as_str), wanted));
    if let Some(union) = union.as_ref().filter(|union| old.get(CLUSTERS) != Some(*union)) {
        plan.add.push(write(CLUSTERS, union.clone()));
    }
    // The listener last: Envoy refuses one that names a file that does not exist.
    let routes = new.iter().filter(|(name, _)| is_routes_file(name));
    for (name, content) in routes.chain(new.get_key_value(LISTENER)) {
        if changed(name, content) {
            plan.switch.push(write(name, content.clone()));
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    plan.remove.extend(gone.map(|name| EnvoyStep::Remove { name: name.clone() }));
    if let Some(wanted) = wanted.filter(|wanted| union.as_ref() != Some(*wanted)) {
        plan.remove.push(write(CLUSTERS, wanted.clone()));
    }
    plan
}

fn write(name: &str, content: String) -> EnvoyStep {
    EnvoyStep::Write { name: name.to_owned(), content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_render::resources::response;
    use serde_json::{Value, json};

    fn files(clusters: &[&str], routes: &[&str]) -> Files {
        let clusters = clusters.iter().map(|name| json!({ "name": name }).to_string());
        let listener = (LISTENER.to_owned(), json!(routes).to_string());
        let mut files = Files::from([(CLUSTERS.to_owned(), response(clusters)), listener]);
        files.extend(routes.iter().map(|name| ((*name).to_owned(), json!(name).to_string())));
        files
    }

    fn names(steps: &[EnvoyStep]) -> Vec<String> {
        let name = |step: &EnvoyStep| match step {
            EnvoyStep::Write { name, content } if name == CLUSTERS => {
                let content: Value = serde_json::from_str(content).unwrap_or_default();
                let clusters = content["resources"].as_array().into_iter().flatten();
                let names: Vec<_> = clusters.filter_map(|c| c["name"].as_str()).collect();
                format!("clusters {}", names.join(" "))
            }
            EnvoyStep::Write { name, .. } => name.clone(),
            EnvoyStep::Remove { name } => format!("-{name}"),
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
