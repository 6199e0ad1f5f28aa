//! Draws the rates as bars, relative to the baseline of each case.

use std::{fs, path::Path};

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    row::Row,
    side::Contestant::{self, Ours, Tokio},
};
use crate::Failure;

/// Height of a case in pixels: its two bars and the space below.
const CASE: u32 = 46;

/// Height of everything else in pixels: the title, the axis and the legend.
const FRAME: u32 = 130;

const WIDTH: u32 = 900;

const FONT: &str = "sans-serif";

/// One bar: a rate relative to the baseline, which is raw sockets, or tokio where there are none.
struct Bar {
    contestant: Contestant,
    ratio: f64,
}

pub(super) fn draw(rows: &[Row], file: &Path) -> Result<(), Failure> {
    let cases: Vec<_> = rows.iter().filter_map(bars).collect();
    if cases.is_empty() {
        return Err("no case was measured that the chart could show".into());
    }
    let mut svg = String::new();
    draw_into(&cases, &mut svg).map_err(|err| err.to_string())?;
    fs::write(file, svg)?;
    Ok(())
}

fn bars(row: &Row) -> Option<(&'static str, Vec<Bar>)> {
    let (name, baseline) = (row.case.name, row.raw().unwrap_or(Tokio));
    let contestants = [Tokio, Ours].into_iter();
    let bars: Option<Vec<_>> = contestants
        .filter(|&contestant| contestant != baseline)
        .map(|contestant| {
            let ratio = row.ratio(contestant, baseline)?;
            Some(Bar { contestant, ratio })
        })
        .collect();
    Some((name, bars?))
}

fn draw_into(
    cases: &[(&'static str, Vec<Bar>)],
    svg: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let height = FRAME + CASE * cases.len() as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = cases.iter().flat_map(|(_, bars)| bars);
    let most = most.map(|bar| bar.ratio).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Rate relative to raw sockets (to tokio where there are none)",
            (FONT, 18),
        )
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(170)
        // The first case is at the top.
        .build_cartesian_2d(0.0..most * 1.1, cases.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_label_formatter(&|ratio| format!("{ratio:.1}"))
        .x_label_style((FONT, 13))
        .draw()?;

    for (index, (name, bars)) in cases.iter().enumerate() {
        let top = index as f64;
        let (left, middle) = chart.backend_coord(&(0.0, top + 0.5));
        let label = (FONT, 13)
            .into_text_style(&area)
            .pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(*name, (left - 8, middle), label))?;
        for (place, bar) in bars.iter().enumerate() {
            let from = top + 0.5 + 0.38 * (place as f64 - bars.len() as f64 / 2.0);
            let corners = [(0.0, from), (bar.ratio, from + 0.36)];
            chart.draw_series([Rectangle::new(corners, color(bar.contestant).filled())])?;
        }
    }
    let baseline = [(1.0, 0.0), (1.0, cases.len() as f64)];
    chart.draw_series([PathElement::new(baseline, BLACK)])?;

    for contestant in [Tokio, Ours] {
        let color = color(contestant);
        chart
            .draw_series(std::iter::empty::<Rectangle<(f64, f64)>>())?
            .label(contestant.to_string())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font((FONT, 13))
        .draw()?;
    area.present()?;
    Ok(())
}

fn color(contestant: Contestant) -> RGBColor {
    match contestant {
        Ours => RGBColor(31, 119, 180),
        _ => RGBColor(170, 170, 170),
    }
}
