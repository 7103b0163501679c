//! The line of a progress bar: a bar, percent, and as many parts as the terminal is wide enough for.

/// Columns assumed where the terminal does not say.
const USUAL: usize = 80;

/// Columns of the terminal that standard error is.
pub(super) fn width() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map_or(USUAL, |(terminal_size::Width(w), _)| usize::from(w))
}

/// The line after `done` of `total` steps on a terminal of `width` columns: a bar, percent, and the parts from the first to
/// the last one that fits. The last column stays free, where some terminals would wrap.
pub(super) fn line([done, total]: [u64; 2], parts: &[String], width: usize) -> String {
    let share = done as f64 / total.max(1) as f64;
    let cells = (width / 5).clamp(6, 24);
    let full = (share * cells as f64).floor() as usize;
    let mut out: String = (0..cells).map(|i| if i < full { '█' } else { '░' }).collect();
    // Never 100 before the end.
    out += &format!(" {:>3} %", (100.0 * share).floor());
    let mut used = out.chars().count();
    for part in parts {
        used += 2 + part.chars().count();
        if used >= width {
            break;
        }
        out += "  ";
        out += part;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{duration, parts};
    use super::*;
    use jempp::run::Progress;
    use jempp::train::StepMetrics;

    fn progress() -> Progress {
        let metrics = StepMetrics {
            step: 547,
            loss: 0.3127,
            ce: 0.2104,
            accuracy: 0.953125,
            log_density_data: 1.5,
            log_density_chain: 1.25,
            ..StepMetrics::default()
        };
        Progress {
            epoch: 24,
            iterations: [547, 1210],
            metrics,
            images_per_second: 3581.4,
            seconds_left: 83.2,
        }
    }

    #[test]
    fn what_people_look_for_first_is_there_at_any_width() {
        let at = |width| line([547, 1210], &parts(&progress()), width);
        assert_eq!(at(60), "█████░░░░░░░  45 %  1 min 23 s left  acc 0.953  gap +0.25");
        assert_eq!(at(80), "███████░░░░░░░░░  45 %  1 min 23 s left  acc 0.953  gap +0.25  epoch 25");
        assert_eq!(
            at(120),
            "██████████░░░░░░░░░░░░░░  45 %  1 min 23 s left  acc 0.953  gap +0.25  epoch 25  ce 0.210  loss 0.313  3581 images/s"
        );
        for width in 20..200 {
            let n = at(width).chars().count();
            assert!(n < width, "{width}: {n}");
        }
        assert!(at(200).ends_with("547/1210"));
        // The longest values that a long run shows still leave percent and time.
        let long = Progress { seconds_left: 359_999.0, ..progress() };
        assert!(line([1, 3], &parts(&long), 40).contains(&format!("33 %  {} left", duration(359_999.0))));
        assert!(
            line([1209, 1210], &[], 40).ends_with(" 99 %") && line([1210, 1210], &[], 40).ends_with("100 %")
        );
    }
}
