//! The process of one peer. It sleeps in a read from its standard input until it is asked for something; every request
//! and every answer is one line:
//!
//! ```text
//! prepare INPUT FILTER COLD n c h w o kh kw stride pad dilation groups  ->  ok WHAT IT USES
//! network MODEL INPUT EXTENT...                                         ->  ok WHAT IT USES
//! output FILE                                                           ->  ok
//! time CALLS                                                            ->  ok SECONDS
//! ```
//!
//! Files are raw `f32`: input and output NCHW, filter OIHW; MODEL is ONNX. COLD is the size of the ring in bytes, 0 for
//! none. `time` makes one call that is not timed first. Any answer may be `error MESSAGE` instead.

use super::Engine;
use crate::pin::Crew;
use kernels::Isa;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(120);

/// One engine for one instruction set and number of threads.
pub(crate) struct Worker {
    /// Whose.
    pub(crate) engine: &'static Engine,
    /// Which vectors it is limited to.
    pub(crate) isa: Isa,
    folder: PathBuf,
    threads: usize,
    process: Option<Process>,
    /// Calls that fill a turn.
    calls: Option<u64>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    /// Of `engine` as installed in `folder`; the process is started when it is needed.
    pub(crate) fn new(engine: &'static Engine, folder: &Path, threads: usize, isa: Isa) -> Self {
        Self { engine, isa, folder: folder.to_owned(), threads, process: None, calls: None }
    }

    /// Prepares a layer or a network, on the cores of `crew`, and says what the engine uses for it.
    pub(crate) fn prepare(&mut self, crew: &Crew, request: &str) -> Result<String, String> {
        self.calls = None;
        if self.process.is_none() {
            let started = crew.pinned(|| Process::start(self.engine, &self.folder, self.threads, self.isa));
            self.process = Some(started.map_err(|error| format!("cannot be started: {error}"))?);
        }
        self.ask(request)
    }

    /// The output of what is prepared, as it writes it to `file`.
    pub(crate) fn output(&mut self, file: &Path) -> Result<Vec<f32>, String> {
        let bytes = self.output_bytes(file)?;
        Ok(floats(&bytes))
    }

    /// The same in the engine's own type.
    pub(crate) fn output_bytes(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        self.ask(&format!("output {}", file.display()))?;
        std::fs::read(file).map_err(|error| error.to_string())
    }

    /// Seconds per call of as many calls as take about `slice`; NaN if it fails.
    pub(crate) fn turn(&mut self, slice: Duration) -> f64 {
        let calls = match self.calls {
            Some(calls) => calls,
            None => {
                // The second time knows more than the first, which may still be warming up.
                let first = self.time(1);
                let probe = calls_in(slice / 10, first);
                let calls = calls_in(slice, self.time(probe));
                *self.calls.insert(calls)
            }
        };
        let seconds = self.time(calls);
        if self.threads > 1 {
            // The threads of some engines wait for more work for a while before they sleep; they shall not do so
            // in the turn of the next.
            std::thread::sleep(Duration::from_millis(5));
        }
        seconds
    }

    fn time(&mut self, calls: u64) -> f64 {
        let answer = self.ask(&format!("time {calls}"));
        answer.ok().and_then(|text| text.parse::<f64>().ok()).map_or(f64::NAN, |all| all / calls as f64)
    }

    /// Bytes of memory that the process has had at once so far, where the system says (Linux).
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        nets::peak_bytes(&self.process.as_ref()?.child.id().to_string())
    }

    /// The answer without its `ok`. A process that does not answer is ended.
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

fn calls_in(slice: Duration, seconds: f64) -> u64 {
    (slice.as_secs_f64() / seconds.max(1e-9)).ceil().clamp(1.0, 1e7) as u64
}

impl Process {
    fn start(engine: &Engine, folder: &Path, threads: usize, isa: Isa) -> std::io::Result<Self> {
        let mut child = engine.command(folder, threads, isa)?.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, output) = pipes.ok_or_else(|| std::io::Error::other("it has no pipes"))?;
        let (sender, answers) = channel();
        // Ends with the process, when there are no more lines.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        Ok(Self { child, requests, answers })
    }
}

impl Drop for Process {
    /// Nothing that it has is worth a word to it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes numbers as workers read and write them: raw `f32`, the least significant byte first.
pub(crate) fn write(file: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(file, bytes)
}

/// Numbers as [`write`] writes them.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}
