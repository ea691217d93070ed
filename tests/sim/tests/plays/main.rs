//! Plays whose end is known. One binary: what each of them is linked with is large, and compiled with optimisation.

mod explore;
mod lossy_service;
mod lost_log;
mod managers_health;
mod new_leaders;
mod small_fleet;
mod three_managers;
