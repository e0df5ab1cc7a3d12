//! The process of one peer. It blocks on standard input until it gets a request. Every request and every
//! answer is one line:
//!
//! ```text
//! prepare INPUT FILTER COLD n c h w o kh kw stride pad dilation groups     ->  ok WHAT IT USES
//! data GRADIENT FILTER COLD n c h w o kh kw stride pad dilation groups     ->  ok WHAT IT USES
//! weights INPUT GRADIENT COLD n c h w o kh kw stride pad dilation groups   ->  ok WHAT IT USES
//! transposed OUTPUT FILTER COLD n c h w o kh kw stride pad dilation groups ->  ok WHAT IT USES
//! volume VERB FIRST SECOND COLD n c d h w o k stride pad dilation groups   ->  ok WHAT IT USES
//! network MODEL INPUT EXTENT...                                            ->  ok WHAT IT USES
//! output FILE                                                              ->  ok
//! time CALLS                                                               ->  ok SECONDS
//! ```
//!
//! Files are raw `f32`: input, output and their gradients in NCHW, filters in OIHW. The extents are those of the
//! convolution. `data` and `transposed` compute a tensor with the shape of its input from one with the shape of its output.
//! `volume` asks for a 3-D layer, with one of the first three verbs; its tensors are in NCDHW and OIDHW.
//! The result of `weights` is the gradient of the filter, followed by that of a bias. MODEL is an ONNX file. COLD is the
//! size of the ring in bytes, or 0 for warm memory. `time` makes one untimed call first. Any answer can be
//! `error MESSAGE` instead.

use super::Engine;
use crate::direction::Direction;
use crate::pin::Crew;
use kernels::Isa;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than any working request takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The worker of one engine, for one instruction set and number of threads.
pub(crate) struct Worker {
    /// The engine.
    pub(crate) engine: &'static Engine,
    /// The instruction set that it is limited to.
    pub(crate) isa: Isa,
    folder: PathBuf,
    threads: usize,
    process: Option<Process>,
    /// Number of calls that fill a turn.
    calls: Option<u64>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    /// A worker for `engine`, installed in `folder`. The process starts when it is first needed.
    pub(crate) fn new(engine: &'static Engine, folder: &Path, threads: usize, isa: Isa) -> Self {
        Self { engine, isa, folder: folder.to_owned(), threads, process: None, calls: None }
    }

    /// Prepares a layer or a network, on the cores of `crew`. Returns what the engine says it uses, such as
    /// its kernel.
    pub(crate) fn prepare(&mut self, crew: &Crew, request: &str) -> Result<String, String> {
        self.calls = None;
        if self.process.is_none() {
            let started = crew.pinned(|| Process::start(self.engine, &self.folder, self.threads, self.isa));
            self.process = Some(started.map_err(|error| format!("cannot be started: {error}"))?);
        }
        self.ask(request)
    }

    /// The output of the prepared task, written by the engine to `file`.
    pub(crate) fn output(&mut self, file: &Path) -> Result<Vec<f32>, String> {
        let bytes = self.output_bytes(file)?;
        Ok(floats(&bytes))
    }

    /// The output as raw bytes, in the element type of the engine.
    pub(crate) fn output_bytes(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        self.ask(&format!("output {}", file.display()))?;
        std::fs::read(file).map_err(|error| error.to_string())
    }

    /// Seconds per call, over as many calls as fill about `slice`; NaN if the engine fails.
    pub(crate) fn turn(&mut self, slice: Duration) -> f64 {
        let calls = match self.calls {
            Some(calls) => calls,
            None => {
                // The first call can include warm-up, so a second measurement corrects the estimate.
                let first = self.time(1);
                let probe = calls_in(slice / 10, first);
                let calls = calls_in(slice, self.time(probe));
                *self.calls.insert(calls)
            }
        };
        let seconds = self.time(calls);
        if self.threads > 1 {
            // The threads of some engines spin for a while before they sleep. They must not disturb the next
            // rival's turn.
            std::thread::sleep(Duration::from_millis(5));
        }
        seconds
    }

    fn time(&mut self, calls: u64) -> f64 {
        let answer = self.ask(&format!("time {calls}"));
        answer.ok().and_then(|text| text.parse::<f64>().ok()).map_or(f64::NAN, |all| all / calls as f64)
    }

    /// Peak resident memory of the process in bytes, if the system reports it (Linux).
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        nets::peak_bytes(&self.process.as_ref()?.child.id().to_string())
    }

    /// Sends a request and returns the answer without its `ok`. A process that does not answer is killed.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String, String> {
        let process = self.process.as_mut().ok_or("has ended")?;
        let sent = writeln!(process.requests, "{request}").and_then(|()| process.requests.flush());
        let answer = match process.answers.recv_timeout(PATIENCE) {
            Ok(answer) if sent.is_ok() => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.process = None;
                return Err("took too long".to_owned());
            }
            _ => {
                self.process = None;
                return Err("crashed".to_owned());
            }
        };
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", rest) => Ok(rest.to_owned()),
            (_, rest) => Err(rest.to_owned()),
        }
    }
}

/// The request that prepares a layer in `direction`.
pub(crate) const fn request(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "prepare",
        Direction::Data | Direction::Weights | Direction::Transposed => direction.name(),
    }
}

/// The request that prepares a 3-D layer in `direction`.
pub(crate) const fn volume_request(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "volume prepare",
        Direction::Weights => "volume weights",
        Direction::Data | Direction::Transposed => "volume data",
    }
}

fn calls_in(slice: Duration, seconds: f64) -> u64 {
    (slice.as_secs_f64() / seconds.max(1e-9)).ceil().clamp(1.0, 1e7) as u64
}

impl Process {
    fn start(engine: &Engine, folder: &Path, threads: usize, isa: Isa) -> std::io::Result<Self> {
        let mut child = engine.command(folder, threads, isa)?.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, output) = pipes.ok_or_else(|| std::io::Error::other("it has no pipes"))?;
        let (sender, answers) = channel();
        // This thread ends when the process closes its output.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Self { child, requests, answers })
    }
}

impl Drop for Process {
    /// The process holds no state worth a clean shutdown.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes numbers in the format of the workers: raw little-endian `f32`.
pub(crate) fn write(file: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(file, bytes)
}

/// Reads numbers in the format of [`write`].
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}
