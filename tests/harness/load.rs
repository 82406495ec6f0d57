//! The load generator: many users over few connections, as a mesh client sends them.

use crate::far_end::Observation;
use crate::netns::Netns;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
pub use caller::Caller;
use client::Client;
pub use client::Http;
use http_body_util::Empty;
use hyper::Request;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who sends requests.
mod caller;

/// One connection to the proxy.
mod client;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the client connects to; the pod redirects it to its proxy.
    pub target: SocketAddr,
    /// `Host` of every request.
    pub host: String,
    pub http: Http,
    pub callers: Vec<Caller>,
    /// Requests in all; the callers get equal shares in a shuffled order that is always the same.
    pub requests: usize,
    pub concurrency: usize,
    /// Pause of each client between two requests.
    pub pace: Duration,
    /// End of the run, whatever is left.
    pub limit: Duration,
}

impl Load {
    /// 20 concurrent clients without pause, two minutes at most.
    #[must_use]
    pub fn new(target: SocketAddr, host: &str, callers: Vec<Caller>) -> Self {
        Self {
            target,
            host: host.to_owned(),
            http: Http::H1,
            callers,
            requests: 1000,
            concurrency: 20,
            pace: Duration::ZERO,
            limit: Duration::from_secs(120),
        }
    }

    /// The same over this HTTP version.
    #[must_use]
    pub fn over(mut self, http: Http) -> Self {
        self.http = http;
        self
    }

    /// The same with so many requests.
    #[must_use]
    pub fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// The same with so many concurrent clients.
    #[must_use]
    pub fn concurrency(mut self, clients: usize) -> Self {
        self.concurrency = clients;
        self
    }

    /// The same with this pause of each client between two requests.
    #[must_use]
    pub fn pace(mut self, pause: Duration) -> Self {
        self.pace = pause;
        self
    }

    /// Sends everything from inside the namespace as uid 1000 and returns what came back.
    pub fn run(self, netns: &Netns) -> Result<Vec<Exchange>> {
        self.start(netns, Stop::default())?.finish()
    }

    /// Starts sending in the background.
    pub fn start(self, netns: &Netns, stop: Stop) -> Result<Running> {
        let flag = stop.clone();
        let started = Instant::now();
        let thread = netns.spawn("load", move || self.send(&flag, started))?;
        Ok(Running { started, stop, thread })
    }

    fn send(self, stop: &Stop, start: Instant) -> Result<Vec<Exchange>> {
        // Of this thread only; sockets belong to it.
        let _ = nix::unistd::setfsuid(nix::unistd::Uid::from_raw(1000));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build a runtime")?;
        let tasks = tokio::task::LocalSet::new();
        runtime.block_on(tasks.run_until(self.send_all(stop.clone(), start)))
    }

    async fn send_all(self, stop: Stop, start: Instant) -> Result<Vec<Exchange>> {
        let order = Rc::new(RefCell::new(shuffled(self.requests, self.callers.len())));
        let results = Rc::new(RefCell::new(Vec::with_capacity(self.requests)));
        let connections = match self.http {
            Http::H1 => self.concurrency,
            Http::H2 => 2.min(self.concurrency),
        };
        let clients: Vec<_> =
            (0..connections).map(|_| Rc::new(Client::new(self.target, self.http))).collect();
        let load = Rc::new(self);
        let workers: Vec<_> = (0..load.concurrency)
            .map(|worker| {
                let client = Rc::clone(&clients[worker % connections]);
                let (load, order, results) = (load.clone(), order.clone(), results.clone());
                let stop = stop.clone();
                tokio::task::spawn_local(async move {
                    while !stop.asked() && start.elapsed() < load.limit {
                        let Some((number, caller)) = order.borrow_mut().pop() else {
                            break;
                        };
                        let seen = load.once(&client, number, caller, start).await;
                        results.borrow_mut().push(seen);
                        if !load.pace.is_zero() {
                            #[expect(
                                clippy::disallowed_methods,
                                reason = "between two requests of a paced load"
                            )]
                            tokio::time::sleep(load.pace).await;
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.context("a client of the load generator failed")?;
        }
        Ok(results.take())
    }

    async fn once(&self, client: &Client, number: usize, caller: usize, start: Instant) -> Exchange {
        let sent = start.elapsed();
        let result = match self.request(number, caller) {
            Ok(request) => client.send(request).await,
            Err(error) => Err(error),
        };
        let (status, body, error) = match result {
            Ok((status, body)) => (Some(status), body, None),
            Err(error) => (None, Bytes::new(), Some(format!("{error:#}"))),
        };
        let observed: Option<Observation> = serde_json::from_slice(&body).ok();
        let error = error.or_else(|| {
            let failed = status != Some(200) || observed.is_none();
            failed.then(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned())
        });
        Exchange { caller, sent, took: start.elapsed() - sent, status, observed, error }
    }

    fn request(&self, number: usize, caller: usize) -> Result<Request<Empty<Bytes>>> {
        let caller = &self.callers[caller];
        let uri = match self.http {
            Http::H1 => format!("/{number}"),
            Http::H2 => format!("http://{}/{number}", self.host),
        };
        let mut request = Request::builder().uri(uri);
        if self.http == Http::H1 {
            request = request.header("host", &self.host);
        }
        if !caller.users.is_empty() {
            request = request.header("user", &caller.users[number % caller.users.len()]);
        }
        for (name, value) in &caller.headers {
            request = request.header(name, value);
        }
        request.body(Empty::new()).map_err(|error| anyhow!("not a request: {error}"))
    }
}

/// A load in the background.
#[derive(Debug)]
pub struct Running {
    /// What [`Exchange::sent`] counts from.
    pub started: Instant,
    stop: Stop,
    thread: JoinHandle<Result<Result<Vec<Exchange>>>>,
}

impl Running {
    /// Waits until everything is sent.
    pub fn finish(self) -> Result<Vec<Exchange>> {
        match self.thread.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Lets requests in flight end and sends no more.
    pub fn stop(self) -> Result<Vec<Exchange>> {
        self.stop.ask();
        self.finish()
    }

    /// True when everything is sent.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A request to end early, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks every holder to end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Has anyone asked?
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Index of the caller in [`Load::callers`].
    pub caller: usize,
    /// Since the start of the run.
    pub sent: Duration,
    pub took: Duration,
    /// HTTP status; none if there was no answer.
    pub status: Option<u16>,
    pub observed: Option<Observation>,
    /// Why there is no observed, or the beginning of the body of a refusal.
    pub error: Option<String>,
}

/// Numbers with their callers in a fixed random order (Fisher-Yates over a linear congruence).
fn shuffled(requests: usize, callers: usize) -> Vec<(usize, usize)> {
    let mut order: Vec<_> = (0..requests).map(|n| (n / callers.max(1), n % callers.max(1))).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for last in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (state >> 33) as usize % (last + 1);
        order.swap(last, pick);
    }
    order
}
