//! The task that keeps the folder like the policy.

use super::folder::{self, EnvoyFolder, EnvoyFolderError};
use super::steps::{EnvoyPlan, EnvoyStep, plan};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_policy::model::Policy;
use clovisor_render::namespace::render;
use clovisor_render::proxy::RenderConfig;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long after a failed write the next try is.
const RETRY: Duration = Duration::from_secs(1);

/// Where the files go and how they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyConfig {
    /// Parent of the namespaces' folders.
    pub dir: PathBuf,
    /// Where a pod sees its namespace's folder; none: at the same path as this process.
    pub mount: Option<PathBuf>,
    /// The rest; its `mount` is not used.
    pub render: RenderConfig,
    /// Time for Envoy to read new clusters before routes name them.
    pub settle: Duration,
    /// Time for old connections to go before what only they use is removed.
    pub linger: Duration,
}

impl EnvoyConfig {
    /// The defaults for files below `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            mount: None,
            render: RenderConfig::default(),
            settle: Duration::from_millis(150),
            linger: Duration::from_secs(5),
        }
    }
}

/// What the files are like now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnvoyStatus {
    /// The policy that the files say; none before the first write.
    pub policy: Option<Arc<Policy>>,
    /// Parts of the policy that Envoy cannot express, and files that cannot be written.
    pub problems: Vec<Problem>,
}

/// Keeps the folders like the policy until its sender is gone. The value that is there at the start counts:
/// start this after the first compilation, or it takes the empty policy for the user's.
pub async fn run(
    mut policy: watch::Receiver<Arc<Policy>>,
    config: EnvoyConfig,
    status: watch::Sender<Arc<EnvoyStatus>>,
) {
    loop {
        let current = policy.borrow_and_update().clone();
        let pass = converge(&current, &config).await;
        let written = if pass.failed { status.borrow().policy.clone() } else { Some(current) };
        status.send_replace(Arc::new(EnvoyStatus { policy: written, problems: pass.problems }));
        let (wait, removals) = match pass.failed {
            true => (Some(RETRY), Vec::new()),
            false => (Some(config.linger).filter(|_| !pass.removals.is_empty()), pass.removals),
        };
        tokio::select! {
            changed = policy.changed() => if changed.is_err() { return },
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {
                report(&apply(removals).await);
            }
        }
    }
}

/// Steps for one folder.
type Work = (EnvoyFolder, Vec<EnvoyStep>);

#[derive(Default)]
struct Pass {
    problems: Vec<Problem>,
    removals: Vec<Work>,
    failed: bool,
}

async fn converge(policy: &Arc<Policy>, config: &EnvoyConfig) -> Pass {
    let mut pass = Pass::default();
    let (mut adds, mut switches) = (Vec::new(), Vec::new());
    for namespace in namespaces(policy, config) {
        match plan_for(&namespace, policy, config) {
            Ok((folder, plan, problems)) => {
                pass.problems.extend(problems);
                adds.push((folder.clone(), plan.add));
                switches.push((folder.clone(), plan.switch));
                pass.removals.push((folder, plan.remove));
            }
            Err(error) => pass.fail(&error),
        }
    }
    let settle = has_steps(&adds) && has_steps(&switches);
    let mut errors = apply(adds).await;
    if settle {
        sleep(config.settle).await;
    }
    // A folder whose clusters could not be written must not get routes to them.
    let broken: BTreeSet<PathBuf> = errors.iter().map(|(folder, _)| folder.clone()).collect();
    switches.retain(|(folder, _)| !broken.contains(folder.path()));
    errors.extend(apply(switches).await);
    report(&errors);
    errors.iter().for_each(|(_, error)| pass.fail(error));
    pass.removals.retain(|(_, steps)| !steps.is_empty());
    pass
}

impl Pass {
    fn fail(&mut self, error: &EnvoyFolderError) {
        // A bad name stays bad: only what may pass is tried again.
        self.failed |= matches!(error, EnvoyFolderError::Io(_));
        let file = match error {
            EnvoyFolderError::Io(error) => error.path.display().to_string(),
            EnvoyFolderError::Namespace(name) => name.clone(),
        };
        let (reason, subject) = (ProblemReason::EnvoyFilesNotWritten, Subject::File(file));
        self.problems.push(Problem::whole(reason, subject, error.to_string()));
    }
}

/// Namespaces with a policy, and those whose proxies still read files of an older one.
fn namespaces(policy: &Policy, config: &EnvoyConfig) -> BTreeSet<String> {
    let mut all = folder::namespaces(&config.dir);
    all.extend(policy.namespaces.keys().cloned());
    all
}

fn plan_for(
    namespace: &str,
    policy: &Policy,
    config: &EnvoyConfig,
) -> Result<(EnvoyFolder, EnvoyPlan, Vec<Problem>), EnvoyFolderError> {
    let folder = EnvoyFolder::open(&config.dir, namespace)?;
    let mount = config.mount.clone().unwrap_or_else(|| folder.path().to_owned());
    let rendered = render(namespace, policy, &RenderConfig { mount, ..config.render.clone() });
    let plan = plan(&folder.read()?, &rendered.files);
    Ok((folder, plan, rendered.problems))
}

fn has_steps(work: &[Work]) -> bool {
    work.iter().any(|(_, steps)| !steps.is_empty())
}

/// Does the work on a thread that may block; a folder stops at its first error, the others go on.
async fn apply(work: Vec<Work>) -> Vec<(PathBuf, EnvoyFolderError)> {
    let all = move || {
        let mut errors = Vec::new();
        for (folder, steps) in work {
            if let Err(error) = steps.iter().try_for_each(|step| folder.apply(step)) {
                errors.push((folder.path().to_owned(), error));
            }
        }
        errors
    };
    tokio::task::spawn_blocking(all).await.unwrap_or_default()
}

fn report(errors: &[(PathBuf, EnvoyFolderError)]) {
    for (_, error) in errors {
        tracing::warn!(%error, "envoy files not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_policy::model::NamespacePolicy;
    use std::time::Instant;

    fn policy(namespaces: &[&str]) -> Arc<Policy> {
        let namespaces = namespaces.iter().map(|n| ((*n).to_owned(), NamespacePolicy::default()));
        Arc::new(Policy { namespaces: namespaces.collect(), ..Policy::default() })
    }

    async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn files_follow_the_policy() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let mut config = EnvoyConfig::new(root.path().to_owned());
        (config.settle, config.linger) = (Duration::ZERO, Duration::ZERO);
        let (policies, receiver) = watch::channel(policy(&["shop", "../out"]));
        let (status, statuses) = watch::channel(Arc::default());
        let task = tokio::spawn(run(receiver, config, status));
        eventually("first files", || statuses.borrow().policy.is_some()).await;
        assert!(root.path().join("shop/lds.json").is_file());
        assert!(!root.path().with_file_name("out").exists());
        assert_eq!(statuses.borrow().problems.len(), 1);

        std::fs::write(root.path().join("shop/rds-80.json"), "{}")?;
        policies.send_replace(policy(&["bank"]));
        eventually("new namespace", || root.path().join("bank/lds.json").is_file()).await;
        eventually("stale file removed", || !root.path().join("shop/rds-80.json").exists()).await;
        assert!(root.path().join("shop/lds.json").is_file(), "its proxies still read it");
        drop(policies);
        task.await?;
        Ok(())
    }
}
