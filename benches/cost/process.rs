//! The servers, each a process of its own on its own core, and what the kernel says of them.

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// Of the times in `/proc`, a second (`getconf CLK_TCK`).
const TICKS: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PhotoShare,
    Node,
}

/// A running server; dropping it ends it.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

/// Processor time, in user space and in the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub user: Duration,
    pub kernel: Duration,
}

/// Keeps this process away from the server's core.
pub fn pin_load() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", LOAD_CORE, &pid]).output()?.status;
    anyhow::ensure!(pinned.success(), "taskset: {pinned}");
    Ok(())
}

impl Server {
    pub fn start(kind: Kind) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]);
        match kind {
            Kind::PhotoShare => command.arg(std::env::current_exe()?).arg("serve"),
            Kind::Node => {
                command.arg("node").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost/node/server.mjs"))
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut said)?;
        let address = SocketAddr::from(([127, 0, 0, 1], said.trim().parse()?));
        Ok(Self { child, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn order(&self, line: &str) -> anyhow::Result<()> {
        Ok(self.child.stdin.as_ref().context("no input")?.write_all(line.as_bytes())?)
    }

    /// Resident, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Used so far.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold spaces; the times are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let time = |field: &str| anyhow::Ok(Duration::from_secs(1) * field.parse()? / TICKS);
        Ok(Cpu { user: time(fields[11])?, kernel: time(fields[12])? })
    }

    /// Used since `before`.
    pub fn cpu_since(&self, before: Cpu) -> anyhow::Result<Cpu> {
        let Cpu { user, kernel } = self.cpu()?;
        Ok(Cpu { user: user.saturating_sub(before.user), kernel: kernel.saturating_sub(before.kernel) })
    }
}

impl Cpu {
    pub fn all(self) -> Duration {
        self.user + self.kernel
    }

    /// Of one out of `count`.
    pub fn each(self, count: f64) -> Self {
        Self { user: self.user.div_f64(count), kernel: self.kernel.div_f64(count) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PhotoShare => "PhotoShare",
            Self::Node => "Node",
        })
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        write!(f, "{:.2} µs ({:.2} + {:.2})", micros(self.all()), micros(self.user), micros(self.kernel))
    }
}
