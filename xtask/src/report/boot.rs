//! The table of boot times, which the page and the summary share.

use smoke::boot::Boot;

/// Number of slowest units of each boot that are shown.
const UNITS: usize = 5;

/// The rows: a name, and its time in each boot. First the parts of a boot, then the slowest units of each boot.
pub(super) fn table(boots: &[(&str, &Boot)]) -> Vec<(String, Vec<Option<f64>>)> {
    let parts: Vec<Vec<(&str, f64)>> = boots.iter().map(|(_, boot)| boot.parts()).collect();
    let units: Vec<Vec<(&str, f64)>> = boots
        .iter()
        .map(|(_, boot)| boot.slowest.iter().map(|unit| (unit.name.as_str(), unit.seconds)).collect())
        .collect();
    let mut rows = rows(&parts, usize::MAX);
    rows.extend(self::rows(&units, UNITS));
    rows
}

/// A row for each name that is among the first `most` of a column.
fn rows(columns: &[Vec<(&str, f64)>], most: usize) -> Vec<(String, Vec<Option<f64>>)> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|column| column.iter().take(most)) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let time = |column: &Vec<(&str, f64)>, name| column.iter().find(|(n, _)| *n == name).map(|(_, seconds)| *seconds);
    names.iter().map(|name| ((*name).to_owned(), columns.iter().map(|c| time(c, *name)).collect())).collect()
}

/// The text of a table cell.
pub(super) fn time(seconds: Option<f64>) -> String {
    seconds.map_or("–".to_owned(), |seconds| format!("{seconds:.1} s"))
}

#[cfg(test)]
mod tests {
    use smoke::boot::Unit;

    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_boot() {
        let unit = |name: &str| Unit { name: name.to_owned(), seconds: 1.0 };
        let first = Boot { kernel: Some(6.1), slowest: vec![unit("cloud-init.service")], ..Boot::default() };
        let second =
            Boot { to_ssh: Some(30.0), kernel: Some(6.0), slowest: vec![unit("ufw.service")], ..first.clone() };
        let rows = table(&[("first boot", &first), ("after reboot", &second)]);
        let lines: Vec<String> = rows
            .iter()
            .map(|(name, times)| format!("{name}: {}", times.iter().map(|t| time(*t)).collect::<Vec<_>>().join(", ")))
            .collect();
        assert_eq!(
            lines,
            [
                "kernel: 6.1 s, 6.0 s",
                "machine start to SSH: –, 30.0 s",
                "cloud-init.service: 1.0 s, –",
                "ufw.service: –, 1.0 s",
            ]
        );
    }
}
