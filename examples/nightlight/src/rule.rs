//! When it is dark.

/// Dark is below a threshold. With hysteresis, a light that is on stays on until it is brighter than
/// the threshold by so much, so that it does not flicker at dusk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Below this it is dark: strictly, as in the lesson.
    pub threshold: f64,
    /// How much more it takes to switch off than to switch on; 0 is the lesson's rule.
    pub hysteresis: f64,
}

impl Rule {
    /// Whether the LED is to be on at this light, if it was on before or not.
    pub fn decide(self, light: f64, was_on: bool) -> bool {
        let limit = if was_on { self.threshold + self.hysteresis } else { self.threshold };
        light < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_itself_is_bright() {
        let rule = Rule { threshold: 300.0, hysteresis: 0.0 };
        for was_on in [false, true] {
            assert!(rule.decide(299.0, was_on));
            assert!(!rule.decide(300.0, was_on));
        }
    }

    #[test]
    fn a_light_around_the_threshold_switches_once() {
        let rule = Rule { threshold: 300.0, hysteresis: 20.0 };
        let mut is_on = false;
        let mut switched = 0;
        for light in [310.0, 295.0, 305.0, 299.0, 319.0, 301.0, 320.0, 305.0, 300.0] {
            let on = rule.decide(light, is_on);
            switched += u32::from(on != is_on);
            is_on = on;
        }
        assert_eq!((switched, is_on), (2, false));
    }
}
