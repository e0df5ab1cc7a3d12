//! [`Profile`]: the machine parameters of the cost model.

mod caches;
mod measure;

use crate::describe::{ConvError, Isa};
pub(crate) use caches::size as cache_bytes;
use std::fmt;
use std::num::NonZero;

/// A machine, described by the numbers that a choice depends on. All are integers, so a choice is
/// reproducible to the bit.
///
/// [`typical`](Self::typical) describes a typical machine. [`detect`](Self::detect) replaces the values that
/// the operating system reports. [`measure`](Self::measure) also measures the rates. The text form has one
/// line `name = value` per field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Profile {
    /// The instruction set whose multiply-add rate [`fma_mflops`](Self::fma_mflops) is.
    pub isa: Isa,
    /// Cores available to this process.
    pub cores: usize,
    /// Bytes of a core's first-level data cache.
    pub l1_bytes: usize,
    /// Bytes of a core's second-level cache.
    pub l2_bytes: usize,
    /// Bytes of the third-level cache, all cores together.
    pub l3_bytes: usize,
    /// Peak rate of fused multiply-adds of one thread, in 10^6 floating-point operations per second.
    pub fma_mflops: u64,
    /// Peak rate of products of bf16 numbers of one thread, in 10^6 floating-point operations per second: that of
    /// matrix tiles or of dot products, if the instruction set has them.
    pub bf16_mflops: u64,
    /// Bandwidth of one thread reading from the second-level cache, in 10^6 bytes per second.
    pub l2_mbs: u64,
    /// Bandwidth of one thread reading from the third-level cache, in 10^6 bytes per second.
    pub l3_mbs: u64,
    /// Bandwidth of one thread reading from memory, in 10^6 bytes per second.
    pub dram_mbs: u64,
    /// Bandwidth of all threads together from their second-level caches, in 10^6 bytes per second.
    pub l2_mbs_all: u64,
    /// Bandwidth of all threads together from the third-level cache, in 10^6 bytes per second.
    pub l3_mbs_all: u64,
    /// Bandwidth of all threads together from memory, in 10^6 bytes per second.
    pub dram_mbs_all: u64,
    /// Nanoseconds to hand work to the other threads and wait for them.
    pub region_ns: u64,
}

/// Name, getter and setter of a numeric field.
type Field = (&'static str, fn(&Profile) -> u64, fn(&mut Profile, u64));

/// Expands `field!(name as type)` to a [`Field`].
macro_rules! field {
    ($name:ident as $type:ty) => {
        (stringify!($name), |profile| profile.$name as u64, |profile, value| profile.$name = value as $type)
    };
}

const FIELDS: [Field; 13] = [
    field!(cores as usize),
    field!(l1_bytes as usize),
    field!(l2_bytes as usize),
    field!(l3_bytes as usize),
    field!(fma_mflops as u64),
    field!(bf16_mflops as u64),
    field!(l2_mbs as u64),
    field!(l3_mbs as u64),
    field!(dram_mbs as u64),
    field!(l2_mbs_all as u64),
    field!(l3_mbs_all as u64),
    field!(dram_mbs_all as u64),
    field!(region_ns as u64),
];

/// Upper bound of every field. Sums and products of values below it do not overflow.
const MOST: u64 = 1 << 50;

impl Profile {
    /// A typical machine with `isa`. The numbers are constants, the same on every machine.
    pub const fn typical(isa: Isa) -> Self {
        // Per thread: a server core at about 3 GHz with two AVX-512 pipes; the same with half the vector
        // width; a core with two NEON pipes.
        let (fma_mflops, l1_bytes, l2_bytes) = match isa {
            Isa::Avx512F | Isa::Amx => (185_000, 48 << 10, 2 << 20),
            Isa::Avx512Bf16 => (185_000, 48 << 10, 1 << 20),
            Isa::Avx2Fma => (105_000, 32 << 10, 1 << 20),
            Isa::Neon => (48_000, 64 << 10, 1 << 20),
            Isa::Portable => (25_000, 32 << 10, 512 << 10),
        };
        Self {
            isa,
            cores: 8,
            l1_bytes,
            l2_bytes,
            l3_bytes: 32 << 20,
            fma_mflops,
            bf16_mflops: match isa {
                Isa::Amx => 2_250_000,
                Isa::Avx512Bf16 => 2 * fma_mflops,
                // Plain loops.
                _ => fma_mflops / 32,
            },
            l2_mbs: 160_000,
            l3_mbs: 48_000,
            dram_mbs: 20_000,
            l2_mbs_all: 8 * 160_000,
            l3_mbs_all: 8 * 48_000,
            dram_mbs_all: 60_000,
            region_ns: 3_000,
        }
    }

    /// [`typical`](Self::typical) with the available cores of this process and, on Linux, the cache sizes of
    /// this machine.
    pub fn detect(isa: Isa) -> Self {
        let mut profile = Self::typical(isa);
        profile.cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for (bytes, level) in
            [(&mut profile.l1_bytes, 1), (&mut profile.l2_bytes, 2), (&mut profile.l3_bytes, 3)]
        {
            *bytes = caches::size(level).unwrap_or(*bytes);
        }
        let cores = profile.cores as u64;
        (profile.l2_mbs_all, profile.l3_mbs_all) = (cores * profile.l2_mbs, cores * profile.l3_mbs);
        profile.dram_mbs_all = (cores * profile.dram_mbs).min(Self::typical(isa).dram_mbs_all);
        profile
    }

    /// [`detect`](Self::detect) with measured rates.
    ///
    /// Measuring takes less than 300 ms on all cores, which should be idle. It uses the rayon pool of the
    /// caller, or rayon's global pool. Without the feature `rayon` it measures one core.
    ///
    /// # Errors
    /// [`ConvError::IsaUnavailable`] if this machine does not have `isa`, [`ConvError::OutOfMemory`] if the
    /// buffers to read from cannot be allocated.
    pub fn measure(isa: Isa) -> Result<Self, ConvError> {
        measure::measure(isa)
    }

    /// Parses the text that [`Display`](fmt::Display) writes. Empty lines and lines that begin with `#` are
    /// skipped.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] names the line that is missing, unknown or outside the range of a machine.
    pub fn parse(text: &str) -> Result<Self, ConvError> {
        let mut profile: Option<Self> = None;
        let mut missing: Vec<&str> = FIELDS.iter().map(|field| field.0).collect();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let wrong = || ConvError::field("profile", "lines of the form `name = number`", line);
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let (name, value) = (name.trim(), value.trim());
            let Some(profile) = &mut profile else {
                if name != "isa" {
                    return Err(ConvError::field("profile", "isa in the first line", line));
                }
                profile = Some(Self::typical(value.parse()?));
                continue;
            };
            let field = FIELDS.iter().find(|field| field.0 == name).ok_or_else(wrong)?;
            let number = value.parse().ok().filter(|number| (1..=MOST).contains(number)).ok_or_else(wrong)?;
            (field.2)(profile, number);
            missing.retain(|&missing| missing != name);
        }
        match (profile, missing.first()) {
            (Some(profile), None) => Ok(profile),
            (_, missing) => Err(ConvError::field(
                "profile",
                "a line for every field",
                format!("no line {}", missing.unwrap_or(&"isa")),
            )),
        }
    }

    /// Bandwidth of each of `threads` busy threads in 10^9 bytes per second: second level, third level,
    /// memory.
    pub(crate) fn rates(&self, threads: usize) -> [f64; 3] {
        let threads = threads as u64;
        let rate = |one: u64, all: u64| one.min(all / threads).max(1) as f64 * 1e-3;
        [
            rate(self.l2_mbs, self.l2_mbs_all.max(threads.saturating_mul(self.l2_mbs))),
            rate(self.l3_mbs, self.l3_mbs_all.max(self.l3_mbs)),
            rate(self.dram_mbs, self.dram_mbs_all.max(self.dram_mbs)),
        ]
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "isa = {}", self.isa)?;
        FIELDS.iter().try_for_each(|(name, get, _)| writeln!(f, "{name} = {}", get(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leads_back() {
        for isa in Isa::ALL {
            for profile in [Profile::typical(isa), Profile::detect(isa)] {
                assert_eq!(Profile::parse(&profile.to_string()), Ok(profile));
                assert_eq!(Profile::parse(&format!("# measured\n\n{profile}\n")), Ok(profile));
            }
        }
    }

    #[test]
    fn text_that_is_no_profile_is_refused_by_name() {
        let text = Profile::typical(Isa::Neon).to_string();
        for (broken, part) in [
            (String::new(), "no line cores"),
            (text.replace("l2_bytes = ", "l2_bytes "), "l2_bytes"),
            (text.replace("cores = 8", "cores = 0"), "cores = 0"),
            (text.replace("cores = 8", "cores = 99999999999999999999"), "cores"),
            (text.replace("isa = neon", "isa = sse9"), "sse9"),
            (text.replace("region_ns", "region"), "region"),
            (text.lines().take(5).collect::<Vec<_>>().join("\n"), "no line fma_mflops"),
            (text.lines().skip(1).collect::<Vec<_>>().join("\n"), "isa in the first line"),
        ] {
            let error = Profile::parse(&broken).expect_err(&broken).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn detected_numbers_are_those_of_a_machine() {
        let profile = Profile::detect(Isa::Portable);
        assert!(profile.cores >= 1 && profile.cores <= 4096);
        assert!((4 << 10..1 << 24).contains(&profile.l1_bytes), "{profile}");
        assert!(profile.l2_bytes >= profile.l1_bytes && profile.l3_bytes >= profile.l2_bytes, "{profile}");
    }

    #[test]
    fn measuring_is_quick_and_gives_what_a_machine_can_have() {
        let isa = Isa::detect();
        let start = std::time::Instant::now();
        let profile = Profile::measure(isa).expect("it is this machine's");
        let took = start.elapsed();
        println!("{} ms\n{profile}", took.as_millis());
        assert_eq!(Profile::parse(&profile.to_string()), Ok(profile));
        assert!(profile.l2_mbs > profile.dram_mbs / 2, "{profile}");
    }
}
