//! Columns, ages and sizes as kubectl prints them.

use clovisor_objects::printable::printable;

/// Between columns.
const GAP: usize = 3;

/// Rows under upper-case headers; empty cells become `<none>`.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let cell =
        |text: &String| if text.is_empty() { "<none>".to_owned() } else { printable(text).into_owned() };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count());
        cells.chain([headers.get(i).map_or(0, |h| h.len())]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..headers.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + GAP));
        }
        format!("{}\n", text.trim_end())
    };
    let head: Vec<String> = headers.iter().map(ToString::to_string).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect()
}

/// `5m32s` as kubectl: the two largest units below ten of the larger one, else one.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => match seconds % 60 {
            0 => format!("{minutes}m"),
            rest => format!("{minutes}m{rest}s"),
        },
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => match minutes % 60 {
            0 => format!("{hours}h"),
            rest => format!("{hours}h{rest}m"),
        },
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => match hours % 24 {
            0 => format!("{days}d"),
            rest => format!("{days}d{rest}h"),
        },
        _ => format!("{days}d"),
    }
}

/// `1.2 KiB`: three digits and a binary unit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}B") } else { format!("{value:.1}{}", UNITS.get(unit).unwrap_or(&"")) }
}

/// A count with its noun, which takes a plural `s`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubectls() {
        let rows = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (332, "5m32s"),
            (3600, "60m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (100_000, "27h"),
            (180_000, "2d2h"),
            (1_000_000, "11d"),
        ];
        for (seconds, text) in rows {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["s9".into(), "Up".into()], vec!["starlink".into(), String::new()]];
        assert_eq!(table(&["NAME", "STATE"], &rows), "NAME       STATE\ns9         Up\nstarlink   <none>\n");
        assert_eq!(bytes(999), "999B");
        assert_eq!(bytes(1536), "1.5KiB");
    }

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([counted(1, "pod"), counted(0, "pod"), counted(2, "pod")], ["1 pod", "0 pods", "2 pods"]);
    }
}
