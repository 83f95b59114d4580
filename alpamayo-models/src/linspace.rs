//! Evenly spaced numbers as PyTorch computes them.

/// `count` numbers from `start` to `end` in f32, each half counted from its own end.
pub(crate) fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|index| {
            if index < count / 2 {
                start + step * index as f32
            } else {
                end - step * (count - 1 - index) as f32
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::linspace;

    #[test]
    fn the_ends_are_exact() {
        for count in 2..50 {
            let values = linspace(0.0, 47.0, count);
            assert_eq!((values[0], values[count - 1]), (0.0, 47.0));
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn one_number_is_the_start() {
        assert_eq!(linspace(3.0, 9.0, 1), [3.0]);
        assert!(linspace(3.0, 9.0, 0).is_empty());
    }

    #[test]
    fn the_flow_times_are_the_references() {
        // torch.linspace(0, 1, 11), bit for bit.
        let truth = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0_f32];
        let values = linspace(0.0, 1.0, 11);
        for (value, truth) in values.iter().zip(truth) {
            assert!((value - truth).abs() <= f32::EPSILON / 2.0, "{value} {truth}");
        }
    }
}
