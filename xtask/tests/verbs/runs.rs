//! `ami runs` and the ledger.

use super::*;

#[test]
fn a_damaged_ledger_is_renamed_and_reported() {
    let project = Project::new();
    let image = project.ready("20261121-0001");
    fs::write(project.path(".agent-ami/ledger.db"), "x".repeat(5000)).unwrap();
    for file in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(project.path(&format!(".agent-ami/{file}")));
    }
    promote(&project, &image, "staging").assert_exit(0, &["ledger", "damaged"]);
    ended(&mut project.command(&["ami", "runs"])).assert_exit(0, &[]);
}
