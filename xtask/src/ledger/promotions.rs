//! What channels were pointed at: who, what, when, why. A promotion without an end was cut off in the middle.

use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::{Ledger, now};
use crate::error::Result;

/// A channel made to point at an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Promotion {
    /// The run that did it.
    pub run: String,
    /// Where the run was at work.
    pub on: String,
    /// The channel.
    pub channel: String,
    /// The image's name in ami.toml. A channel points at one image of each.
    pub of: String,
    /// The account that owns the image; `None` where there are no accounts, and in rows that are older than this column.
    pub account: Option<String>,
    /// Forward or back.
    pub kind: PromotionKind,
    /// The image's name.
    pub image: String,
    /// The name of the image that the channel pointed at before; empty if it pointed at none that is known.
    pub instead_of: String,
    /// Its version.
    pub version: String,
    /// Its id in each region.
    pub ids: BTreeMap<String, String>,
    /// Who asked for it.
    pub who: String,
    /// Why, in a person's words; what was overridden and why.
    pub why: String,
    /// When it began, RFC 3339.
    pub at: String,
    /// When all was written and read back.
    pub ended: Option<String>,
    /// The run that moved the channel after this promotion was interrupted: it must not be finished any more.
    pub superseded: Option<String>,
}

/// Which way a channel was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotionKind {
    /// To a newer image.
    Promote,
    /// Back to an older one.
    Rollback,
}

impl PromotionKind {
    /// Its name in the journal and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }
}

impl Promotion {
    /// True if it was interrupted and nothing has moved the channel since.
    pub fn is_half_done(&self) -> bool {
        self.ended.is_none() && self.superseded.is_none()
    }

    /// True if it moves this channel of this image.
    pub fn moves(&self, channel: &str, of: &str) -> bool {
        self.channel == channel && self.of == of
    }
}

impl Ledger {
    /// Writes down that a channel is about to be pointed elsewhere. The same run doing the same again goes on with what it began.
    pub fn begin_promotion(&self, promotion: &Promotion) -> Result<()> {
        let Promotion { run, channel, of, account, kind, image, instead_of, version, ids, who, why, at, .. } =
            promotion;
        let ids = serde_json::json!(ids).to_string();
        self.write(
            "INSERT INTO promotion
                (run, channel, kind, image, version, ids, who, why, at, instead_of, kind_of_image, account)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
             WHERE NOT EXISTS (SELECT 1 FROM promotion WHERE run = ?1 AND channel = ?2 AND image = ?4 AND ended IS NULL)",
            params![run, channel, kind.name(), image, version, ids, who, why, at, instead_of, of, account],
        )
    }

    /// Writes down that the channel points there now, in every region, and that earlier promotions of the same image in it, which were
    /// interrupted, must not be finished any more.
    pub fn end_promotion(&self, run: &str, channel: &str, of: &str) -> Result<()> {
        self.write(
            "UPDATE promotion SET superseded = ?1
             WHERE run <> ?1 AND channel = ?2 AND kind_of_image = ?3 AND ended IS NULL AND superseded IS NULL
               AND run IN (SELECT id FROM run WHERE provider = (SELECT provider FROM run WHERE id = ?1))",
            params![run, channel, of],
        )?;
        self.write(
            "UPDATE promotion SET ended = ?4 WHERE run = ?1 AND channel = ?2 AND kind_of_image = ?3 AND ended IS NULL",
            params![run, channel, of, now()],
        )
    }

    /// All promotions at a provider, oldest first.
    pub fn promotions(&self, on: &str) -> Result<Vec<Promotion>> {
        self.read(
            "SELECT run, provider, channel, kind, image, version, ids, who, why, at, promotion.ended, instead_of,
                    superseded, account, kind_of_image
             FROM promotion JOIN run ON run.id = promotion.run WHERE provider = ?1 ORDER BY seq",
            params![on],
            promotion,
        )
    }
}

fn promotion(row: &Row<'_>) -> rusqlite::Result<Promotion> {
    let (kind, ids): (String, String) = (row.get(3)?, row.get(6)?);
    let wrong =
        |e: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, Box::new(e));
    Ok(Promotion {
        run: row.get(0)?,
        on: row.get(1)?,
        channel: row.get(2)?,
        kind: if kind == PromotionKind::Rollback.name() { PromotionKind::Rollback } else { PromotionKind::Promote },
        image: row.get(4)?,
        instead_of: row.get(11)?,
        version: row.get(5)?,
        ids: serde_json::from_str(&ids).map_err(wrong)?,
        who: row.get(7)?,
        why: row.get(8)?,
        at: row.get(9)?,
        ended: row.get(10)?,
        superseded: row.get(12)?,
        account: row.get(13)?,
        of: row.get(14)?,
    })
}
