//! The cost of delivery, compared with Node's socket.io: `make bench`, explained in `docs/benchmarks.md`.
//!
//! This process is the load, on one core. It starts the servers on the other core, a new one for every step.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    reason = "the figures are printed for people"
)]

mod load;
mod process;
mod server;
mod targets;

use std::time::{Duration, Instant};

use load::{Client, SharedTally};
use process::{Cpu, Server, ServerKind};
use targets::TargetReport;

/// What a server publishes in a step: a line of four numbers on its standard input.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    feeds: u32,
    /// Events per second, over all feeds.
    rate: u32,
    events: u32,
    /// Size of an event, in bytes.
    size: usize,
}

impl Workload {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next()?.parse().ok();
        Some(Self { feeds: next()?, rate: next()?, events: next()?, size: next()? as usize })
    }

    fn to_line(self) -> String {
        format!("{} {} {} {}\n", self.feeds, self.rate, self.events, self.size)
    }
}

const RATES: [u32; 7] = [20, 50, 100, 200, 400, 800, 1200];
const SIZES: [usize; 2] = [400, 1200];
const CLIENTS: u32 = 1000;
/// Clients of the step with many feeds.
const MANY_CLIENTS: u32 = 10_000;
/// Connections that are established at the same time.
const CONCURRENT_CONNECTS: u32 = 50;
/// Feeds that each client joins in the join step.
const JOINS_PER_CLIENT: u32 = 20;
/// Clients that read nothing in the stall step.
const STALLED_CLIENTS: u32 = 100;
/// Events of the stall step.
const STALL_EVENTS: u32 = 10_000;
/// Time after the last event within which a server must have delivered everything.
const CATCH_UP_TIME: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "serve") {
        return server::serve().await;
    }
    process::pin_load()?;
    let mut report = TargetReport::default();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    for size in SIZES {
        if wanted(&size.to_string()) {
            run_rates(size, &words, &mut report).await?;
        }
    }
    if wanted("many") {
        run_many_feeds(&words, &mut report).await?;
    }
    if wanted("stalled") {
        run_stalled(&words).await?;
    }
    report.print();
    Ok(())
}

/// The rates of `BENCH_RATES`, by default all of them.
fn parse_rates() -> anyhow::Result<Vec<u32>> {
    match std::env::var("BENCH_RATES") {
        Ok(named) => Ok(named.split(',').map(str::parse).collect::<Result<_, _>>()?),
        Err(_) => Ok(RATES.to_vec()),
    }
}

/// The server that the arguments name, by default both.
fn server_kinds(words: &[String]) -> impl Iterator<Item = ServerKind> {
    let named = |name: &str| words.iter().any(|word| word == name);
    let kinds = match (named("ours"), named("node")) {
        (true, false) => vec![ServerKind::PhotoShare],
        (false, true) => vec![ServerKind::Node],
        _ => vec![ServerKind::PhotoShare, ServerKind::Node],
    };
    kinds.into_iter()
}

/// Results of one step.
struct Figures {
    per_second: f64,
    cpu: Cpu,
    p50: Duration,
    p99: Duration,
    /// Events that were not delivered in time.
    missing: u64,
    /// Events that were delivered twice or out of order.
    out_of_order: u64,
    size: u64,
}

impl Figures {
    fn sustained(&self, rate: u32, clients: u32) -> bool {
        let expected = f64::from(rate) * f64::from(clients);
        self.missing + self.out_of_order == 0 && self.per_second > 0.95 * expected
    }
}

/// 1,000 clients in one feed, at each rate.
async fn run_rates(size: usize, words: &[String], report: &mut TargetReport) -> anyhow::Result<()> {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    println!("\n## {CLIENTS} clients in one feed, events of {size} bytes\n");
    println!("| events/s | server | deliveries/s | CPU per delivery | p50 | p99 | missing | frame |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for rate in parse_rates()? {
        for kind in server_kinds(words) {
            let workload = Workload { feeds: 1, rate, events: rate * seconds, size };
            let server = Server::start(kind)?;
            let shared = SharedTally::new();
            spawn_clients(connect(&server, CLIENTS, 1, &shared).await?);
            let figures = publish(&server, workload, CLIENTS, &shared).await?;
            print_row(rate, kind, &figures);
            report.record_step(kind, size, rate, &figures);
        }
    }
    Ok(())
}

/// 10,000 connections in 2,000 feeds: connects, memory while idle, deliveries, joins.
async fn run_many_feeds(words: &[String], report: &mut TargetReport) -> anyhow::Result<()> {
    let feeds = MANY_CLIENTS / 5;
    println!("\n## {MANY_CLIENTS} connections, {feeds} feeds of 5\n");
    for kind in server_kinds(words) {
        let server = Server::start(kind)?;
        let before = server.memory()?;
        let (start, cpu) = (Instant::now(), server.cpu()?);
        let shared = SharedTally::new();
        let clients = connect(&server, MANY_CLIENTS, feeds, &shared).await?;
        let took = start.elapsed();
        let each = server.cpu_since(cpu)?.per_item(MANY_CLIENTS.into());
        spawn_clients(clients);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let idle = (server.memory()? - before) as f64 / f64::from(MANY_CLIENTS) / 1024.0;
        report.record_memory(kind, idle);
        println!(
            "{kind}: {:.0} connects with a join a second (CPU each: {each}), {idle:.1} KiB a connection",
            f64::from(MANY_CLIENTS) / took.as_secs_f64(),
        );
        let workload = Workload { feeds, rate: feeds, events: feeds * 8, size: 1200 };
        println!("\n| events/s | server | deliveries/s | CPU per delivery | p50 | p99 | missing | frame |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        print_row(feeds, kind, &publish(&server, workload, 5, &shared).await?);
        drop(server);
        run_joins(kind).await?;
    }
    Ok(())
}

/// 1,000 connections, each of which joins one feed after the other.
async fn run_joins(kind: ServerKind) -> anyhow::Result<()> {
    let server = Server::start(kind)?;
    let clients = connect(&server, CLIENTS, 1, &SharedTally::new()).await?;
    let (start, cpu) = (Instant::now(), server.cpu()?);
    let joining = clients.into_iter().enumerate().map(|(number, mut client)| {
        tokio::spawn(async move {
            for feed in 0..JOINS_PER_CLIENT {
                client.join(&format!("j{}-{feed}", number / 5)).await?;
            }
            anyhow::Ok(client)
        })
    });
    let mut joined = Vec::new();
    for client in joining.collect::<Vec<_>>() {
        joined.push(client.await??);
    }
    let joins = f64::from(CLIENTS * JOINS_PER_CLIENT);
    let (took, each) = (start.elapsed(), server.cpu_since(cpu)?.per_item(joins));
    println!("\n{kind}: {:.0} joins a second (CPU each: {each})\n", joins / took.as_secs_f64());
    Ok(())
}

/// 100 connections that read nothing and one that does, while thousands of events are published.
async fn run_stalled(words: &[String]) -> anyhow::Result<()> {
    println!("\n## {STALLED_CLIENTS} connections that read nothing, {STALL_EVENTS} events of 1200 bytes\n");
    println!("| server | memory before | after | a stalled connection | the one that reads: missing | p99 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for kind in server_kinds(words) {
        let server = Server::start(kind)?;
        let shared = SharedTally::new();
        let stalled_clients = connect(&server, STALLED_CLIENTS, 1, &SharedTally::new()).await?;
        spawn_clients(connect(&server, 1, 1, &shared).await?);
        let before = server.memory()?;
        let workload = Workload { feeds: 1, rate: 1000, events: STALL_EVENTS, size: 1200 };
        let figures = publish(&server, workload, 1, &shared).await?;
        let after = server.memory()?;
        let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        println!(
            "| {kind} | {:.1} MiB | {:.1} MiB | {:.1} KiB | {} | {:.1} ms |",
            mib(before),
            mib(after),
            after.saturating_sub(before) as f64 / f64::from(STALLED_CLIENTS) / 1024.0,
            figures.missing + figures.out_of_order,
            figures.p99.as_secs_f64() * 1e3,
        );
        drop(stalled_clients);
    }
    Ok(())
}

/// Connects `count` clients, evenly over the feeds.
async fn connect(
    server: &Server,
    count: u32,
    feeds: u32,
    shared: &SharedTally,
) -> anyhow::Result<Vec<Client>> {
    let tasks: Vec<_> = (0..CONCURRENT_CONNECTS)
        .map(|task| {
            let (address, shared) = (server.address(), shared.clone());
            tokio::spawn(async move {
                let mut clients = Vec::new();
                for number in (task..count).step_by(CONCURRENT_CONNECTS as usize) {
                    let feed = format!("f{}", number % feeds);
                    clients.push(Client::connect(address, feed, shared.clone()).await?);
                }
                anyhow::Ok(clients)
            })
        })
        .collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.extend(task.await??);
    }
    Ok(clients)
}

fn spawn_clients(clients: Vec<Client>) {
    for client in clients {
        tokio::spawn(client.receive_events());
    }
}

/// Has the server publish, and waits until everything has arrived or the time is up.
async fn publish(
    server: &Server,
    workload: Workload,
    per_feed: u32,
    shared: &SharedTally,
) -> anyhow::Result<Figures> {
    let expected = u64::from(workload.events) * u64::from(per_feed);
    let (start, cpu) = (Instant::now(), server.cpu()?);
    server.send_workload(&workload.to_line())?;
    let deadline = start + Duration::from_secs((workload.events / workload.rate).into()) + CATCH_UP_TIME;
    // The load never sleeps: the kernel would charge its wake-ups to the server, while real clients are on
    // other machines.
    while shared.tally().received < expected && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    let cpu = server.cpu_since(cpu)?;
    let tally = shared.tally();
    anyhow::ensure!(tally.received > 0, "no event was received");
    Ok(Figures {
        per_second: tally.received as f64 / (tally.last - start).as_secs_f64(),
        cpu: cpu.per_item(tally.received as f64),
        p50: tally.percentile(0.5),
        p99: tally.percentile(0.99),
        missing: expected.saturating_sub(tally.received),
        out_of_order: tally.out_of_order,
        size: tally.bytes / tally.received,
    })
}

fn print_row(rate: u32, kind: ServerKind, figures: &Figures) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {rate} | {kind} | {:.0} | {} | {:.1} ms | {:.1} ms | {} | {} B |",
        figures.per_second,
        figures.cpu,
        millis(figures.p50),
        millis(figures.p99),
        figures.missing + figures.out_of_order,
        figures.size
    );
}
