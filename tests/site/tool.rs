//! `clovisorctl` as an operator uses it.

use crate::shop;
use anyhow::{Context, Result, ensure};
use harness::agent::{binary, ctl};
use harness::load::Http;
use harness::site::Site;
use harness::site::try_out::{commands, quoted};
use std::path::Path;
use std::process::Command;

/// Exit code, stdout and stderr.
fn ctl_all(socket: &Path, words: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(binary("clovisorctl")?).arg("--socket").arg(socket).args(words).output();
    let output = output.context("clovisorctl did not start")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

/// Tables, explanations and documents of a working site.
#[test]
fn an_operator_sees_what_happens_and_why() -> Result<()> {
    Site::builder("tool").run(|site| {
        shop::open(site)?;
        let summary = shop::run(site, shop::SERVICES[0], Http::H1, 300)?;
        ensure!(summary.clean(), "{summary:#?}");
        let root = site.path("");
        let version = ctl(&root, &["--version"])?;
        ensure!(version.starts_with("clovisorctl 0.") && version.contains("(commit "), "{version}");
        let status = ctl(&root, &["status", "--wait"])?;
        ensure!(status.contains("ready") && status.contains("2 of 2 up"), "{status}");
        ensure!(status.contains("pod_in") && status.contains("flow_opened"), "{status}");
        // Two entries each in the kernel's map.
        let flows = status.lines().find(|line| line.starts_with("FLOW4 (flows)"));
        ensure!(flows.is_some_and(|line| line.ends_with(" 65536")), "{status}");
        let links = ctl(&root, &["links"])?;
        ensure!(links.starts_with("LINK") && links.lines().count() == 3, "{links}");
        let sessions = ctl(&root, &["sessions", "--link", "s9"])?;
        ensure!(sessions.contains("client-0") && !sessions.contains("boss"), "{sessions}");
        let pod = ["explain", "--pod", "shop/client-0", "--host", "h1v4.shop:8001", "--header"];
        let crew = ctl(&root, &[&pod[..], &["user=crew-00042"]].concat())?;
        for word in ["Rules     + crew", "users/crew", "+ s9", "Link      s9", "CLASSES", "SLOTS", "LINKS"] {
            ensure!(crew.contains(word), "no {word:?} in\n{crew}");
        }
        let guest = ctl(&root, &[&pod[..], &["user=guest-00042"]].concat())?;
        ensure!(guest.contains("Link      default route"), "{guest}");
        let json = ctl(&root, &["sessions", "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&json).context("not JSON")?;
        ensure!(list["kind"] == "SessionList" && list["items"][0]["pod"] == "client-0", "{json}");
        let yaml = ctl(&root, &["links", "-o", "yaml"])?;
        ensure!(yaml.contains("kind: LinkList"), "{yaml}");
        Ok(())
    })
}

/// A pool of an outage stays where it is, and `explain` says so: a request may leave by it.
#[test]
fn explain_names_the_connections_of_an_outage() -> Result<()> {
    Site::builder("tool-open").run(|site| {
        shop::open(site)?;
        site.carrier("s9", false)?;
        site.agent()?.wait_link("s9", "Down")?;
        let down = shop::load(shop::SERVICES[0], Http::H1, 200).run(&site.pods[0].netns)?;
        ensure!(
            down.iter().all(|seen| seen.error.is_none()),
            "{:?}",
            down.iter().find(|s| s.error.is_some())
        );
        site.carrier("s9", true)?;
        site.agent()?.wait_link("s9", "Up")?;
        let root = site.path("");
        let words =
            ["explain", "--pod", "shop/client-0", "--host", "h1v4.shop:8001", "--header", "user=minions"];
        let text = ctl(&root, &words)?;
        for word in ["Link      s9", "on s8, of ", "opened before s9 came up at", "`established: Stay`"] {
            ensure!(text.contains(word), "no {word:?} in\n{text}");
        }
        Ok(())
    })
}

/// What goes wrong is said with a remedy, and scripts can tell it by the exit code.
#[test]
fn failures_have_codes_and_remedies() -> Result<()> {
    Site::builder("tool-wrong").run(|site| {
        shop::apply(site)?;
        site.start_agent()?;
        let socket = site.path("run/agent.sock");
        let nowhere = site.path("nowhere.sock");
        let config = site.path("config");
        let config = config.to_str().context("a path in UTF-8")?;
        let run = site.path("run");
        let run = run.to_str().context("a path in UTF-8")?;
        let rows: [(&Path, &[&str], i32, &str); 13] = [
            (&nowhere, &["status"], 69, "start clovisor-agent"),
            (&socket, &["sessoins"], 64, "sessions"),
            (&socket, &["explain", "--pod", "client-0", "--host", "h"], 64, "NAMESPACE/POD"),
            (
                &socket,
                &["explain", "--pod", "bank/client-0", "--host", "h"],
                65,
                "did you mean --pod shop/client-0?",
            ),
            (
                &socket,
                &["explain", "--pod", "shop/client-0", "--host", "h1v5.shop:8001"],
                65,
                "did you mean h1v4.shop:8001?",
            ),
            (
                &socket,
                &["explain", "--pod", "shop/cilent-0", "--host", "h1v4.shop"],
                65,
                "--pod shop/client-0?",
            ),
            (&socket, &["sessions", "--link", "s7"], 65, "did you mean s8?"),
            (&socket, &["sessions", "--pod", "shop/client-7"], 65, "did you mean shop/client-0?"),
            (&socket, &["sessions", "--pod", "client-0"], 64, "NAMESPACE/POD"),
            (&socket, &["sessions", "--link", "s8"], 0, "no steered connections"),
            (&socket, &["check", "-f", run], 65, "holds no object that Clovisor reads"),
            (&socket, &["check", "-f", "/nonexistent"], 65, "with -f"),
            (&socket, &["check", "-f", config], 0, "no problems"),
        ];
        for (socket, words, code, says) in rows {
            let (found, out, err) = ctl_all(socket, words)?;
            ensure!(found == code && err.contains(says), "{words:?}: {found}\n{out}\n{err}");
        }
        site.apply(
            "9-bad.yaml",
            "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: s7}\nspec: {devise: s7}\n",
        )?;
        let (found, out, _) = ctl_all(&socket, &["check", "-f", config])?;
        ensure!(found == 79 && out.contains("devise") && out.contains("line 4"), "{found}\n{out}");
        Ok(())
    })
}

/// What the demo prints with `--keep` is pasted as it is.
#[test]
fn printed_commands_work_as_they_are() -> Result<()> {
    ensure!(quoted(Path::new("/a b/o'c")) == r"'/a b/o'\''c'", "{}", quoted(Path::new("/a b/o'c")));
    Site::builder("pasted").run(|site| {
        shop::open(site)?;
        let commands = commands(site, "h1v4.shop.svc.cluster.local:8001")?;
        let paste = |what: &str| -> Result<String> {
            let one = commands.iter().find(|one| one.what == what).with_context(|| format!("no {what}"))?;
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(&one.command).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            let output = shell.output().context("sh did not start")?;
            let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
            ensure!(output.status.success(), "{}: {}\n{err}", one.command, output.status);
            String::from_utf8(out).context("no text")
        };
        ensure!(paste("the agent")?.contains("2 of 2 up"), "the agent's status");
        let why = paste("why a request takes its link")?;
        ensure!(why.contains("Link      s9"), "{why}");
        paste("cut s9")?;
        site.agent()?.wait_link("s9", "Down")?;
        let links = paste("its links")?;
        ensure!(links.contains("Down"), "{links}");
        let status = paste("the agent")?;
        ensure!(status.contains("1 of 2 up") && status.contains("WanLink s9: LinkDown"), "{status}");
        paste("mend s9")?;
        site.agent()?.wait_link("s9", "Up")?;
        paste("its connections").map(drop)
    })
}
