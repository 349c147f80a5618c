//! The servers under test, each a process of its own, pinned to a core; their CPU time and memory.

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
/// Clock ticks per second of the times in `/proc` (`getconf CLK_TCK`).
const TICKS_PER_SECOND: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    PhotoShare,
    Node,
}

/// A running server; dropping it kills the process.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

/// CPU time, in user space and in the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub user: Duration,
    pub kernel: Duration,
}

/// Pins this process, the load, to a core that the server does not use.
pub fn pin_load() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-cp", LOAD_CORE, &pid]).output()?.status;
    anyhow::ensure!(status.success(), "failed to pin the load: taskset: {status}");
    Ok(())
}

impl Server {
    pub fn start(kind: ServerKind) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]);
        match kind {
            ServerKind::PhotoShare => command.arg(std::env::current_exe()?).arg("serve"),
            ServerKind::Node => {
                command.arg("node").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost/node/server.mjs"))
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("the server has no standard output")?)
            .read_line(&mut port)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse()?));
        Ok(Self { child, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a workload, see [`crate::Workload`].
    pub fn send_workload(&self, line: &str) -> anyhow::Result<()> {
        Ok(self
            .child
            .stdin
            .as_ref()
            .context("the server has no standard input")?
            .write_all(line.as_bytes())?)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// CPU time since the start of the process.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The command name, in parentheses, may contain spaces; the times are the 12th and 13th field after
        // it.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let time = |field: &str| anyhow::Ok(Duration::from_secs(1) * field.parse()? / TICKS_PER_SECOND);
        Ok(Cpu { user: time(fields[11])?, kernel: time(fields[12])? })
    }

    /// CPU time since `before`.
    pub fn cpu_since(&self, before: Cpu) -> anyhow::Result<Cpu> {
        let Cpu { user, kernel } = self.cpu()?;
        Ok(Cpu { user: user.saturating_sub(before.user), kernel: kernel.saturating_sub(before.kernel) })
    }
}

impl Cpu {
    pub fn total(self) -> Duration {
        self.user + self.kernel
    }

    /// CPU time per item, of `count` items.
    pub fn per_item(self, count: f64) -> Self {
        Self { user: self.user.div_f64(count), kernel: self.kernel.div_f64(count) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for ServerKind {
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
        write!(f, "{:.2} µs ({:.2} + {:.2})", micros(self.total()), micros(self.user), micros(self.kernel))
    }
}
