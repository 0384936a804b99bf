//! The tables.

use sqlx::AnyPool;

/// Creates the tables that do not exist. Servers that start at the same time run it together.
pub(super) async fn create(pool: &AnyPool) -> sqlx::Result<()> {
    let mut failed = None;
    // PostgreSQL's IF NOT EXISTS is not safe against a concurrent CREATE: the second one fails by a unique index of the catalog.
    for _ in 0..5 {
        match sqlx::raw_sql(TABLES).execute(pool).await {
            Ok(_) => return Ok(()),
            Err(error) => failed = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    failed.map_or(Ok(()), Err)
}

/// `epoch` grows with each claim: only the worker with the current one may change the build. `home` identifies the state directory of the worker,
/// in which alone the run can be resumed. `offered_at` is when the queue last delivered the build.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS ami_builds (
    id TEXT PRIMARY KEY,
    requested_by TEXT NOT NULL,
    idempotency_key TEXT,
    request TEXT NOT NULL,
    region TEXT NOT NULL,
    status TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    home TEXT,
    lease_until BIGINT NOT NULL,
    offered_at BIGINT NOT NULL,
    run_id TEXT,
    crashes BIGINT NOT NULL,
    cancelled_by TEXT,
    image_id TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    completed_at BIGINT,
    UNIQUE (requested_by, idempotency_key)
);
CREATE INDEX IF NOT EXISTS ami_builds_by_time ON ami_builds (created_at, id);
CREATE INDEX IF NOT EXISTS ami_builds_by_status ON ami_builds (status);
CREATE TABLE IF NOT EXISTS ami_events (
    build_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (build_id, seq)
);
";
