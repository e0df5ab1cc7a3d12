//! Runs work in a child process. If a fault ends it, the parent reports what the child was doing.
//!
//! Only a process with a single thread may fork, so this test has no harness.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of shared memory for a child's note, which begins with the length of the text.
const NOTE: usize = 4096;

/// Memory shared by child and parent; null in the parent.
static SHARED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Records what the child does next.
pub fn note(text: &str) {
    let shared = SHARED.load(Ordering::Relaxed);
    assert!(!shared.is_null(), "only a child has notes");
    let len = text.len().min(NOTE - size_of::<usize>());
    // SAFETY: the mapping has `NOTE` bytes, is aligned to a page, and only this thread of the child writes it.
    unsafe {
        shared.cast::<usize>().write(len);
        shared.add(size_of::<usize>()).copy_from_nonoverlapping(text.as_ptr(), len);
    }
}

pub struct Child {
    id: libc::pid_t,
    shared: *mut u8,
}

impl Child {
    /// Starts `work` in a new process. This process must have one thread.
    pub fn start(work: impl FnOnce()) -> Self {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own.
        let shared = unsafe { libc::mmap(std::ptr::null_mut(), NOTE, access, flags, -1, 0) };
        assert!(shared != libc::MAP_FAILED, "no memory to share");
        // SAFETY: no other thread could hold a lock that the child would wait for.
        match unsafe { libc::fork() } {
            0 => {
                SHARED.store(shared.cast(), Ordering::Relaxed);
                let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
                // SAFETY: the child ends here, and nothing of its parent's is run.
                unsafe { libc::_exit(i32::from(failed)) }
            }
            -1 => panic!("no child process: {}", std::io::Error::last_os_error()),
            id => Self { id, shared: shared.cast() },
        }
    }

    /// Waits until the child has ended. Returns how it ended and what it was doing, unless it succeeded.
    pub fn wait(self) -> Result<(), String> {
        let mut status = 0;
        // SAFETY: `status` lives; the child is this process's own and waited for once.
        let waited = unsafe { libc::waitpid(self.id, &mut status, 0) };
        assert_eq!(waited, self.id, "{}", std::io::Error::last_os_error());
        let how = match (libc::WIFSIGNALED(status), libc::WTERMSIG(status)) {
            (true, signal @ (libc::SIGSEGV | libc::SIGBUS)) => {
                format!("touched a guard page (signal {signal})")
            }
            (true, signal) => format!("ended by signal {signal}"),
            _ if libc::WEXITSTATUS(status) == 0 => return Ok(()),
            _ => "panicked".into(),
        };
        // SAFETY: the child wrote the bytes after their number, and has ended.
        let doing = unsafe {
            let len = self.shared.cast::<usize>().read();
            std::slice::from_raw_parts(self.shared.add(size_of::<usize>()), len)
        };
        Err(format!("{how}: {}", String::from_utf8_lossy(doing)))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: it is this value's mapping, of as many bytes.
        unsafe { libc::munmap(self.shared.cast(), NOTE) };
    }
}
