//! A software emulator of the Intel AMX tile instructions, for tests only.
//!
//! A CPU without AMX raises an invalid-opcode exception at every tile
//! instruction, which Linux delivers as SIGILL. [`install`] registers a handler
//! that decodes the instruction, executes it on a per-thread software tile file
//! and resumes behind it. Any other illegal instruction goes to the handler that
//! was there before, which by default kills the process as usual.
//!
//! Emulated: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILELOADDT1,
//! TILESTORED and TDPBF16PS, as specified in the Intel SDM. Where a CPU would
//! raise an exception for wrong use of these, the emulator prints the reason and
//! aborts. Two checks are stricter than the SDM: LDTILECFG refuses a colsb that
//! is not a multiple of 4 and a non-zero start_row.
//!
//! Not emulated, and so still SIGILL: STTILECFG, the other TDP instructions and
//! prefixes in front of the VEX prefix (segment override, 32-bit addressing).

mod decode;
mod execute;

use decode::decode;
use execute::TileFile;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::{mem, ptr};

/// TDP instructions executed so far, in all threads.
static EXECUTED: AtomicU64 = AtomicU64::new(0);

/// The action for SIGILL before [`install`].
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

thread_local! {
    // Constant and without a destructor, so access is a plain TLS access without
    // lazy initialisation, and thus fine in a signal handler.
    static TILE_FILE: UnsafeCell<TileFile> = const { UnsafeCell::new(TileFile::RELEASED) };
}

/// Emulates tiles if the CPU does not have them but has everything else that their kernels need.
pub fn emulate_if_missing() {
    use kernels::Isa;
    if Isa::available().all(|isa| isa != Isa::Amx) && std::arch::is_x86_feature_detected!("avx512bf16") {
        install();
        kernels::internal::emulation::start();
    }
}

/// Number of TDPBF16PS instructions emulated so far by the whole process.
pub fn executed() -> u64 {
    EXECUTED.load(Ordering::Relaxed)
}

/// Installs the SIGILL handler; further calls do nothing.
///
/// # Panics
///
/// If the CPU lacks AVX2 or FMA, which the emulation of TDPBF16PS uses.
pub fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        assert!(
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            "the AMX emulator needs AVX2 and FMA"
        );
        // SAFETY: a zeroed sigaction is valid (SIG_DFL, empty mask), the pointers
        // are valid, and `on_sigill` has the signature that SA_SIGINFO requires.
        // The old action is stored before the handler can run and look for it.
        unsafe {
            let mut previous: libc::sigaction = mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGILL, ptr::null(), &mut previous), 0);
            PREVIOUS.get_or_init(|| previous);

            let mut action: libc::sigaction = mem::zeroed();
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigill;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, ptr::null_mut()), 0);
        }
    });
}

/// The signal handler. The kernel saves and restores all registers including
/// the vector registers, and SIGILL is blocked meanwhile. Stack use matters: the
/// alternate stack that std gives each thread has only 8 KiB, of which the signal
/// frame takes about 3 KiB.
extern "C" fn on_sigill(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes valid pointers to an SA_SIGINFO handler, and
    // nothing else refers to this frame while the handler runs.
    let (code, registers) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        ((*info).si_code, &mut context.uc_mcontext.gregs)
    };
    // A code above zero comes from the kernel, so RIP is at the faulting
    // instruction; anything else was sent by kill() and has nothing to decode.
    if code > 0 {
        let mut emulated = false;
        // Tile instructions tend to come in groups. Executing the whole group
        // saves a signal for each instruction after the first, and a signal costs
        // far more than the emulation.
        // SAFETY: the CPU has just fetched the instruction at RIP, or would next.
        while let Some((instruction, next)) = unsafe { decode(registers) } {
            TILE_FILE.with(|file| {
                // SAFETY: the file belongs to this thread and only this handler
                // uses it, which does not nest because SIGILL is blocked. The
                // operands are those that the interrupted code chose, and
                // `install` has checked the CPU features.
                unsafe { (*file.get()).execute(instruction) }
            });
            registers[libc::REG_RIP as usize] = next as i64;
            emulated = true;
        }
        if emulated {
            return;
        }
    }
    // Not ours. The previous action sees the instruction when it is repeated after
    // this return; a signal that was sent has to be sent again for that.
    let Some(previous) = PREVIOUS.get() else {
        fail("no previous SIGILL action");
    };
    // SAFETY: restores what sigaction() reported.
    unsafe {
        libc::sigaction(signal, previous, ptr::null_mut());
        if code <= 0 {
            libc::raise(signal);
        }
    }
}

/// Reports misuse for which a CPU raises an exception. Async-signal-safe.
fn fail(reason: &str) -> ! {
    for text in ["AMX emulator: ", reason, "\n"] {
        // SAFETY: the pointer and length are those of a string slice.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    std::process::abort()
}
