//! Pictures of results, as SVG.
//!
//! Invariants:
//!   * Scales are powers of ten, as engines are orders of magnitude apart, and say so.

use super::number;
use super::rows::Table;
use crate::Result;
use plotters::prelude::*;

const WIDTH: u32 = 820;
const HEIGHT: u32 = 440;
const BAR: u32 = 26;
/// What names take on the left, and figures on the right.
const NAMES: u32 = 230;
const FIGURES: u32 = 150;
/// What the names of curves take on the right.
const LEGEND: u32 = 250;
const LINE: usize = 22;
const OWN: RGBColor = RGBColor(31, 119, 180);
/// Of dostore used in another way.
const OWN_TOO: RGBColor = RGBColor(130, 185, 225);
const PEER: RGBColor = RGBColor(170, 170, 170);
const LIMIT: RGBColor = RGBColor(214, 170, 90);
/// Of peers' curves; none is like another.
const LINES: [RGBColor; 14] = [
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
    RGBColor(255, 127, 14),
    RGBColor(152, 223, 138),
    RGBColor(255, 152, 150),
    RGBColor(197, 176, 213),
    RGBColor(196, 156, 148),
    RGBColor(90, 90, 40),
];

/// A bar for each engine, the best on top.
pub fn bars(table: &Table<'_>) -> Result<String> {
    let mut picture = String::new();
    let height = BAR * u32::try_from(table.rows.len())? + 10;
    let area = SVGBackend::with_string(&mut picture, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let values: Vec<f64> = table.rows.iter().map(super::rows::Row::value).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min).max(1e-3) / 3.0;
    let most = values.iter().copied().fold(least * 3.0, f64::max);
    let (left, room) = (i32::try_from(NAMES)?, f64::from(WIDTH - NAMES - FIGURES));
    let style = ("sans-serif", 14).into_font();
    for (index, row) in table.rows.iter().enumerate() {
        let top = i32::try_from(index * BAR as usize)? + 5;
        let share = (row.value().max(least) / least).ln() / (most / least).ln();
        let end = left + (share * room) as i32;
        let color = match (row.is_own(), row.is_limit()) {
            (true, _) => OWN,
            (_, true) => LIMIT,
            _ => PEER,
        };
        area.draw(&Rectangle::new([(left, top), (end, top + 18)], color.filled()))?;
        area.draw(&Text::new(row.title().to_owned(), (5, top + 2), style.clone()))?;
        let unit = row.rounds.first().map_or("", |round| round.figures.unit.as_str());
        let said = format!("{} {unit}", number(row.value()));
        area.draw(&Text::new(said, (end + 6, top + 2), style.clone()))?;
    }
    area.present()?;
    drop(area);
    Ok(picture)
}

/// A line through points.
pub struct Curve {
    pub name: String,
    pub is_own: bool,
    pub is_limit: bool,
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.1)
    }

    /// How its line is drawn; `place` counts all curves.
    fn style(&self, place: usize) -> ShapeStyle {
        match (self.is_own, self.is_limit) {
            // The name of another way to use it says more than the engine's.
            (true, _) if self.name.contains(' ') => OWN_TOO.stroke_width(3),
            (true, _) => OWN.stroke_width(3),
            (_, true) => LIMIT.stroke_width(3),
            _ => LINES[place % LINES.len()].stroke_width(1),
        }
    }
}

/// Curves over what grows by powers of ten; `axes` names what grows, then what is shown.
pub fn curves(mut curves: Vec<Curve>, axes: (&str, &str)) -> Result<String> {
    // Names stand in the order in which lines end, the highest on top.
    curves.sort_by(|one, other| other.last().total_cmp(&one.last()));
    let mut picture = String::new();
    let whole = SVGBackend::with_string(&mut picture, (WIDTH, HEIGHT)).into_drawing_area();
    whole.fill(&WHITE)?;
    let (area, legend) = whole.split_horizontally(WIDTH - LEGEND);
    let (across, up) = (span(&curves, |point| point.0), span(&curves, |point| point.1));
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    let label = |value: &f64| number(*value);
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.0).y_desc(axes.1);
    mesh.x_label_formatter(&label).y_label_formatter(&label).draw()?;
    let font = ("sans-serif", 13).into_font();
    for (place, curve) in curves.iter().enumerate() {
        let style = curve.style(place);
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))?;
        let top = i32::try_from(20 + place * LINE)?;
        legend.draw(&PathElement::new([(5, top), (25, top)], style))?;
        legend.draw(&Text::new(curve.name.clone(), (31, top - 7), font.clone()))?;
    }
    whole.present()?;
    drop((chart, area, legend, whole));
    Ok(picture)
}

/// What the points take up in one direction, with some room.
fn span(curves: &[Curve], of: fn((f64, f64)) -> f64) -> std::ops::Range<f64> {
    let all = curves.iter().flat_map(|curve| curve.points.iter().copied()).map(of);
    let (least, most) =
        all.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (one.min(least), one.max(most)));
    least * 0.7..most.max(least * 2.0) * 1.4
}
