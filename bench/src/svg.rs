//! A small plot on two logarithmic axes, as SVG.

use std::fmt::Write as _;

/// Width and height of the picture, and the room around the axes.
const SIZE: (f64, f64) = (760.0, 460.0);
const MARGIN: f64 = 70.0;
/// Colours of the lines, in order.
const COLOURS: [&str; 5] = ["#1f6fb2", "#c2452d", "#2f8f4e", "#8a5bb5", "#b8860b"];

/// One line of a plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Points, both values above 0.
    pub points: Vec<(f64, f64)>,
}

/// Returns the plot; values that are not above 0 have no place on it and are left out.
pub fn plot(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let all: Vec<_> = lines.iter().flat_map(|l| &l.points).filter(|(x, y)| *x > 0.0 && *y > 0.0).collect();
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high { (0.0, 1.0) } else { (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0)) }
    };
    let (x_low, x_high) = bounds(&mut all.iter().map(|p| p.0));
    let (y_low, y_high) = bounds(&mut all.iter().map(|p| p.1));
    let x_of = |x: f64| MARGIN + (x.log10() - x_low) / (x_high - x_low) * (SIZE.0 - 2.0 * MARGIN);
    let y_of = |y: f64| SIZE.1 - MARGIN - (y.log10() - y_low) / (y_high - y_low) * (SIZE.1 - 2.0 * MARGIN);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"24\" font-size=\"15\" text-anchor=\"middle\">{title}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x_name}</text>\n\
         <text x=\"16\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {})\">{y_name}</text>",
        SIZE.0,
        SIZE.1,
        SIZE.0 / 2.0,
        SIZE.0 / 2.0,
        SIZE.1 - 24.0,
        SIZE.1 / 2.0,
        SIZE.1 / 2.0,
    );
    for exponent in x_low as i32..=x_high as i32 {
        let x = x_of(10f64.powi(exponent));
        let (top, bottom) = (MARGIN, SIZE.1 - MARGIN);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            power(exponent),
        );
    }
    for exponent in y_low as i32..=y_high as i32 {
        let y = y_of(10f64.powi(exponent));
        let (left, right) = (MARGIN, SIZE.0 - MARGIN);
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            power(exponent),
        );
    }
    for (n, line) in lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let points: Vec<_> = line.points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            MARGIN + 10.0,
            MARGIN + 16.0 * (n as f64 + 1.0) - 24.0,
            line.name,
        );
        for point in path {
            let (x, y) = point.split_once(',').unwrap_or_default();
            let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
    out.push_str("</svg>\n");
    out
}

fn power(exponent: i32) -> String {
    match exponent {
        0 => "1".to_owned(),
        3 => "1 k".to_owned(),
        6 => "1 M".to_owned(),
        1 | 2 => format!("{}", 10i32.pow(exponent.unsigned_abs())),
        4 | 5 => format!("{} k", 10i32.pow(exponent.unsigned_abs() - 3)),
        _ => format!("1e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_zero_has_no_place_on_a_logarithmic_axis_and_spoils_nothing() {
        let line = Line { name: "cost".to_owned(), points: vec![(1e3, 0.0), (1e3, 2.0), (1e6, 200.0)] };
        let svg = plot("t", "VMs", "us", &[line]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("1 M") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(plot("t", "x", "y", &[]).ends_with("</svg>\n"));
    }
}
