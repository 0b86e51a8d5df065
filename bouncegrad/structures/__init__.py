"""Structures: search over latent graphs, as integers and energies. Nothing here knows of networks.

A structure puts an edge type on every slot of a task: on every ordered pair of a scene. A search over structures is a
combination of independent parts:

- the slots and their edge types (:class:`~bouncegrad.structures.layout.StructureSpace`);
- what structures cost: any function of them, or a sum of factors that each see few slots
  (:class:`~bouncegrad.structures.factors.Factors`), perhaps tabulated;
- a prior over graphs, which turns factors and a temperature into a posterior (:mod:`~bouncegrad.structures.priors`);
- or a kernel, a pair ``(init, step)`` whose target is ``exp(-loss / temperature + log_prior)``: Metropolis, Gibbs,
  exact (:mod:`~bouncegrad.structures.mcmc`), perhaps wrapped (:mod:`~bouncegrad.structures.kernel_wrappers`);
- for Metropolis, a proposal: a block of slots or one, uniform or learned, with the Hastings term or without
  (:mod:`~bouncegrad.structures.proposals`);
- a temperature: a schedule, or steered by the acceptance (:mod:`~bouncegrad.structures.annealing`), by the entropy of
  the marginals, or by held-out evidence (:mod:`~bouncegrad.structures.calibration`).

Known algorithms are such combinations:

- simulated annealing = Metropolis x uniform proposals x a falling schedule;
- Alet et al. 2019 = Metropolis x learned node-block proposals without the Hastings term x acceptance-steered
  temperature;
- ``fast`` = draws from the posterior by exact tables x prior chosen by evidence x entropy-steered temperature;
- population annealing = particles x resampling x heat bath of small blocks x an adaptive ladder of temperatures
  (:mod:`~bouncegrad.structures.population_annealing`), for graphs too large for tables.
"""
