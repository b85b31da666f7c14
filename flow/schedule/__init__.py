"""Energy-aware scheduling: which processor, clock and variant runs each request, and how far that
is from the best possible. Nothing is imported here; the seam, by file:

* `platform`: Platform, Cluster, OperatingPoint, IdleState, Design, Provenance, Method, Load, Kind;
  `Platform.scaled`, `.by_formula`, `.without_extras`, `hull`, `undominated`. `platform_file`:
  `platform_names()`, `load_platform(name or path, values)`, `unset_fields(name or path)`.
* `trace`: Trace. `generators`: Poisson, Bursty, Periodic, Interactive, Diurnal, ClosedLoop, Demand,
  `generate(generator, demands, count, seed)`. `trace_file`: `read_trace(path)`.
* `work`: Variant, Run, Action, Table, `make_table(platform, variants, models, predicted)`,
  `measured_variants(platform, task)`.
* `policies`: `POLICIES` by name, `find_policy(name, options)`; Replay; `tune_price`.
* `engine`: `simulate(policy, trace, table, platform, work=None, window=None) -> Outcome`.
  `reference`: the same in plain Python. `outcome`: Outcome, Part, Segment.
* `oracle`: `bounds(trace, table, platform, miss_mj, grid_us) -> Bounds` with `lower_mj`,
  `upper_mj`, `exact` (False: a relaxed bound). `yds`: `yds(...)`.

J = energy above the floor + miss_mj * misses, in millijoules. One request runs at a time, in order
of arrival. Governors and `EnergyAware` may change the point of a request that runs.
"""
