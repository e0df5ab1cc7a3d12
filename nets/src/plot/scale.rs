//! From numbers to pixels, and the round numbers between.

/// An axis: numbers from `low` to `high` on pixels `from` to `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) is_log: bool,
}

impl Scale {
    pub(super) fn place(&self, number: f64) -> f64 {
        let of = |number: f64| if self.is_log { number.ln() } else { number };
        let part = (of(number) - of(self.low)) / (of(self.high) - of(self.low));
        self.from + part * (self.to - self.from)
    }

    /// Round numbers on the axis, at least `apart` pixels from each other.
    pub(super) fn ticks(&self, apart: f64) -> Vec<f64> {
        let ticks = if self.is_log { self.log_ticks(apart) } else { self.even_ticks(apart) };
        ticks.into_iter().filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }

    fn even_ticks(&self, apart: f64) -> Vec<f64> {
        let most = ((self.to - self.from).abs() / apart).max(1.0);
        let least = (self.high - self.low) / most;
        let decade = 10f64.powf(least.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|&step| step >= least * 0.999);
        let step = step.unwrap_or(10.0 * decade);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step * 1.000_001).floor() as i64);
        (first..=last).map(|count| count as f64 * step).collect()
    }

    /// Powers of ten, with 2 and 5 between them if there is room.
    fn log_ticks(&self, apart: f64) -> Vec<f64> {
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let fine = (self.place(5.0) - self.place(2.0)).abs() * 0.75 > apart;
        let between: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
        decades.flat_map(|decade| between.iter().map(move |step| step * 10f64.powi(decade))).collect()
    }
}

/// In three digits at most: `1.5M`, `0.042`.
pub fn short(number: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would be rounded to 1000 of a unit is 1 of the next.
    let (unit, letter) =
        units.into_iter().find(|&(unit, _)| number.abs() >= 0.9995 * unit).unwrap_or((1.0, ""));
    let scaled = number / unit;
    let whole = if scaled == 0.0 { 0 } else { scaled.abs().log10().floor() as i32 };
    let digits = (2 - whole).clamp(0, 9) as usize;
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_apart() {
        let scale = |low, high, is_log| Scale { low, high, from: 0.0, to: 400.0, is_log };
        assert_eq!(scale(0.0, 23.0, false).ticks(80.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(scale(1.0, 2.0, false).ticks(90.0), [1.0, 1.5, 2.0]);
        assert_eq!(scale(0.5, 200.0, true).ticks(90.0), [1.0, 10.0, 100.0]);
        assert_eq!(scale(1.0, 20.0, true).ticks(40.0), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(scale(1.0, 100.0, true).place(10.0), 200.0);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.00123, 0.5, 12.34, 999.4, 999.7, 61_706.0, 1.5e6, 2.0e9, -3.25];
        let texts = ["0", "0.00123", "0.5", "12.3", "999", "1k", "61.7k", "1.5M", "2G", "-3.25"];
        assert_eq!(numbers.map(short), texts);
    }
}
