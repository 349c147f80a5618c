//! What delivery costs, beside Node's socket.io: `make bench`, explained in `docs/benchmarks.md`.
//!
//! This process is the load, on one core; it starts each server on the other, anew for every step.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    reason = "figures for people"
)]

mod load;
mod process;
mod server;
mod verdict;

use std::time::{Duration, Instant};

use load::{Client, Shared};
use process::{Cpu, Kind, Server};
use verdict::Verdict;

/// What a server is told to publish.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    feeds: u32,
    /// Events a second, over all feeds.
    rate: u32,
    events: u32,
    /// Of an event, in bytes.
    size: usize,
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next()?.parse().ok();
        Some(Self { feeds: next()?, rate: next()?, events: next()?, size: next()? as usize })
    }

    fn line(self) -> String {
        format!("{} {} {} {}\n", self.feeds, self.rate, self.events, self.size)
    }
}

const RATES: [u32; 7] = [20, 50, 100, 200, 400, 800, 1200];
const SIZES: [usize; 2] = [400, 1200];
const CLIENTS: u32 = 1000;
const MANY: u32 = 10_000;
/// Connections that are being made at the same time.
const AT_ONCE: u32 = 50;
const JOINS: u32 = 20;
const STALLED: u32 = 100;
const BURST: u32 = 10_000;
/// How long a server that fell behind may take to tell the rest.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "serve") {
        return server::serve().await;
    }
    process::pin_load()?;
    let mut verdict = Verdict::default();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    for size in SIZES {
        if wanted(&size.to_string()) {
            ladder(size, &words, &mut verdict).await?;
        }
    }
    if wanted("many") {
        many(&words, &mut verdict).await?;
    }
    if wanted("stalled") {
        stalled(&words).await?;
    }
    verdict.print();
    Ok(())
}

/// All steps, or those that `BENCH_RATES` names.
fn rates() -> anyhow::Result<Vec<u32>> {
    match std::env::var("BENCH_RATES") {
        Ok(named) => Ok(named.split(',').map(str::parse).collect::<Result<_, _>>()?),
        Err(_) => Ok(RATES.to_vec()),
    }
}

/// Both servers, or the one that is named.
fn kinds(words: &[String]) -> impl Iterator<Item = Kind> {
    let named = |name: &str| words.iter().any(|word| word == name);
    let kinds = match (named("ours"), named("node")) {
        (true, false) => vec![Kind::PhotoShare],
        (false, true) => vec![Kind::Node],
        _ => vec![Kind::PhotoShare, Kind::Node],
    };
    kinds.into_iter()
}

/// What one step showed.
struct Figures {
    per_second: f64,
    cpu: Cpu,
    p50: Duration,
    p99: Duration,
    /// Not told in time.
    missing: u64,
    /// Told twice, or not in order.
    wrong: u64,
    size: u64,
}

impl Figures {
    fn sustained(&self, rate: u32, clients: u32) -> bool {
        let wanted = f64::from(rate) * f64::from(clients);
        self.missing + self.wrong == 0 && self.per_second > 0.95 * wanted
    }
}

/// 1,000 clients in one feed, at each rate.
async fn ladder(size: usize, words: &[String], verdict: &mut Verdict) -> anyhow::Result<()> {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    println!("\n## {CLIENTS} clients in one feed, events of {size} bytes\n");
    println!("| events/s | server | deliveries/s | CPU per delivery | p50 | p99 | missing | frame |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for rate in rates()? {
        for kind in kinds(words) {
            let order = Order { feeds: 1, rate, events: rate * seconds, size };
            let server = Server::start(kind)?;
            let shared = Shared::new();
            listen(connect(&server, CLIENTS, 1, &shared).await?);
            let figures = publish(&server, order, CLIENTS, &shared).await?;
            row(rate, kind, &figures);
            verdict.note_step(kind, size, rate, &figures);
        }
    }
    Ok(())
}

/// 10,000 connections in 2,000 feeds: connecting, lying idle, being told, joining.
async fn many(words: &[String], verdict: &mut Verdict) -> anyhow::Result<()> {
    let feeds = MANY / 5;
    println!("\n## {MANY} connections, {feeds} feeds of 5\n");
    for kind in kinds(words) {
        let server = Server::start(kind)?;
        let before = server.memory()?;
        let (start, cpu) = (Instant::now(), server.cpu()?);
        let shared = Shared::new();
        let clients = connect(&server, MANY, feeds, &shared).await?;
        let took = start.elapsed();
        let each = server.cpu_since(cpu)?.each(MANY.into());
        listen(clients);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let idle = (server.memory()? - before) as f64 / f64::from(MANY) / 1024.0;
        verdict.note_memory(kind, idle);
        println!(
            "{kind}: {:.0} connects with a join a second (CPU each: {each}), {idle:.1} KiB a connection",
            f64::from(MANY) / took.as_secs_f64(),
        );
        let order = Order { feeds, rate: feeds, events: feeds * 8, size: 1200 };
        println!("\n| events/s | server | deliveries/s | CPU per delivery | p50 | p99 | missing | frame |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        row(feeds, kind, &publish(&server, order, 5, &shared).await?);
        drop(server);
        joins(kind).await?;
    }
    Ok(())
}

/// 1,000 connections join one feed after the other.
async fn joins(kind: Kind) -> anyhow::Result<()> {
    let server = Server::start(kind)?;
    let clients = connect(&server, CLIENTS, 1, &Shared::new()).await?;
    let (start, cpu) = (Instant::now(), server.cpu()?);
    let joining = clients.into_iter().enumerate().map(|(number, mut client)| {
        tokio::spawn(async move {
            for feed in 0..JOINS {
                client.join(&format!("j{}-{feed}", number / 5)).await?;
            }
            anyhow::Ok(client)
        })
    });
    let mut joined = Vec::new();
    for client in joining.collect::<Vec<_>>() {
        joined.push(client.await??);
    }
    let joins = f64::from(CLIENTS * JOINS);
    let (took, each) = (start.elapsed(), server.cpu_since(cpu)?.each(joins));
    println!("\n{kind}: {:.0} joins a second (CPU each: {each})\n", joins / took.as_secs_f64());
    Ok(())
}

/// 100 connections that read nothing beside one that does, while thousands of events are told.
async fn stalled(words: &[String]) -> anyhow::Result<()> {
    println!("\n## {STALLED} connections that read nothing, {BURST} events of 1200 bytes\n");
    println!("| server | memory before | after | a stalled connection | the one that reads: missing | p99 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for kind in kinds(words) {
        let server = Server::start(kind)?;
        let shared = Shared::new();
        let asleep = connect(&server, STALLED, 1, &Shared::new()).await?;
        listen(connect(&server, 1, 1, &shared).await?);
        let before = server.memory()?;
        let order = Order { feeds: 1, rate: 1000, events: BURST, size: 1200 };
        let figures = publish(&server, order, 1, &shared).await?;
        let after = server.memory()?;
        let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        println!(
            "| {kind} | {:.1} MiB | {:.1} MiB | {:.1} KiB | {} | {:.1} ms |",
            mib(before),
            mib(after),
            after.saturating_sub(before) as f64 / f64::from(STALLED) / 1024.0,
            figures.missing + figures.wrong,
            figures.p99.as_secs_f64() * 1e3,
        );
        drop(asleep);
    }
    Ok(())
}

/// Connects `count` clients, evenly over the feeds.
async fn connect(server: &Server, count: u32, feeds: u32, shared: &Shared) -> anyhow::Result<Vec<Client>> {
    let lanes: Vec<_> = (0..AT_ONCE)
        .map(|lane| {
            let (address, shared) = (server.address(), shared.clone());
            tokio::spawn(async move {
                let mut clients = Vec::new();
                for number in (lane..count).step_by(AT_ONCE as usize) {
                    let feed = format!("f{}", number % feeds);
                    clients.push(Client::connect(address, feed, shared.clone()).await?);
                }
                anyhow::Ok(clients)
            })
        })
        .collect();
    let mut clients = Vec::new();
    for lane in lanes {
        clients.extend(lane.await??);
    }
    Ok(clients)
}

fn listen(clients: Vec<Client>) {
    for client in clients {
        tokio::spawn(client.listen());
    }
}

/// Lets the server publish, and waits until everything has come, or too late.
async fn publish(server: &Server, order: Order, per_feed: u32, shared: &Shared) -> anyhow::Result<Figures> {
    let expected = u64::from(order.events) * u64::from(per_feed);
    let (start, cpu) = (Instant::now(), server.cpu()?);
    server.order(&order.line())?;
    let give_up = start + Duration::from_secs((order.events / order.rate).into()) + GRACE;
    // The load never sleeps: to wake it would be charged to the server, and real clients are elsewhere.
    while shared.tally().received < expected && Instant::now() < give_up {
        tokio::task::yield_now().await;
    }
    let cpu = server.cpu_since(cpu)?;
    let tally = shared.tally();
    anyhow::ensure!(tally.received > 0, "nothing came");
    Ok(Figures {
        per_second: tally.received as f64 / (tally.last - start).as_secs_f64(),
        cpu: cpu.each(tally.received as f64),
        p50: tally.percentile(0.5),
        p99: tally.percentile(0.99),
        missing: expected.saturating_sub(tally.received),
        wrong: tally.out_of_order,
        size: tally.bytes / tally.received,
    })
}

fn row(rate: u32, kind: Kind, figures: &Figures) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {rate} | {kind} | {:.0} | {} | {:.1} ms | {:.1} ms | {} | {} B |",
        figures.per_second,
        figures.cpu,
        millis(figures.p50),
        millis(figures.p99),
        figures.missing + figures.wrong,
        figures.size
    );
}
