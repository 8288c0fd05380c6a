//! From the start of the program to its first answer.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Lab, spread};
use crate::{
    report::{Goal, Report, Row, Unit},
    wire::Connection,
};

pub(super) async fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    eprintln!("start …");
    let directory = lab.site.directory()?;
    // The first start makes the store, and compiles the runtimes.
    let cold = started_ms(lab, directory.path()).await?;
    let mut warm = Vec::new();
    for _ in 0..10 {
        warm.push(started_ms(lab, directory.path()).await?);
    }
    report.row(Row {
        work: "start",
        measure: "to the first 200",
        unit: Unit::Milliseconds,
        straight: None,
        host: spread(warm)?,
        compared: None,
        goal: Some(Goal::AtMost(300.0)),
    });
    report.note(format!("start: {cold:.0} ms the first time, with a new store and nothing compiled"));
    Ok(())
}

async fn started_ms(lab: &Lab, directory: &Path) -> Result<f64> {
    let began = Instant::now();
    let host = lab.site.host(directory)?;
    let request = format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", host.address);
    let mut connection = Connection::open(host.address).await?;
    while connection.call(request.as_bytes()).await.context("GET /health")?.status != 200 {
        sleep(Duration::from_micros(500)).await;
    }
    let ms = began.elapsed().as_secs_f64() * 1e3;
    drop(connection);
    host.stop()?;
    Ok(ms)
}
