const CHOICES = {
 "sigma_min": 0.002,
 "sigma_max": 80.0,
 "betas": [
  17.537956987271237,
  -0.004768986493614236
 ],
 "worse": 0.3,
 "steps": [
  4,
  6,
  10,
  18,
  36
 ],
 "rhos": [
  1,
  3,
  5,
  7,
  10
 ],
 "grids": {
  "edm": {
   "label": "EDM: even in σ^(1/ρ)",
   "code": "edm_jax.timesteps.edm({steps}, rho={rho})"
  },
  "exponential": {
   "label": "Exponential: even in log σ",
   "code": "edm_jax.timesteps.exponential({steps})"
  },
  "vp": {
   "label": "VP: even in its time",
   "code": "edm_jax.timesteps.vp({steps}, sigma_min=0.002, sigma_max=80.0)"
  },
  "tangent": {
   "label": "Tangent: even in atan σ",
   "code": "edm_jax.timesteps.tangent({steps}, sigma_data=1.0)"
  }
 },
 "schedules": {
  "edm": "EDM: σ = t",
  "vp": "VP: β(t) linear",
  "ve": "VE: σ = √t"
 },
 "scalings": {
  "none": "none: s = 1",
  "vp": "VP: s = 1/√(1 + σ²)"
 },
 "processes": {
  "edm none": "",
  "edm vp": "schedule=edm_jax.schedules.process(\"edm\", scaling=\"vp\")",
  "vp none": "schedule=edm_jax.schedules.process(\"vp\", scaling=\"none\", ends=(0.002, 80.0))",
  "vp vp": "schedule=edm_jax.schedules.process(\"vp\", scaling=\"vp\", ends=(0.002, 80.0))",
  "ve none": "schedule=edm_jax.schedules.process(\"ve\", scaling=\"none\")",
  "ve vp": "schedule=edm_jax.schedules.process(\"ve\", scaling=\"vp\")"
 },
 "churns": {
  "0": "",
  "2": "churn=edm_jax.samplers.Churn(s_churn=2)",
  "5": "churn=edm_jax.samplers.Churn(s_churn=5)",
  "10": "churn=edm_jax.samplers.Churn(s_churn=10)"
 },
 "solvers": {
  "euler": {
   "label": "Euler",
   "order": 1,
   "source": "Karras et al. 2022 (EDM), algorithm 2 uncorrected",
   "scheduled": true,
   "option": "",
   "values": []
  },
  "heun": {
   "label": "Heun",
   "order": 2,
   "source": "Karras et al. 2022 (EDM), algorithms 1 and 2",
   "scheduled": true,
   "option": "",
   "values": []
  },
  "ipndm": {
   "label": "iPNDM",
   "order": 2,
   "source": "Zhang and Chen 2023 (DEIS)",
   "scheduled": false,
   "option": "order",
   "values": [
    [
     "4",
     "order=4"
    ],
    [
     "2",
     "order=2"
    ]
   ]
  },
  "dpmpp_2m": {
   "label": "DPM-Solver++(2M)",
   "order": 2,
   "source": "Lu et al. 2022 (DPM-Solver++)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "dpmpp_3m": {
   "label": "DPM-Solver++(3M)",
   "order": 2,
   "source": "Lu et al. 2022 (DPM-Solver++), as published",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "dpmpp_2s": {
   "label": "DPM-Solver++(2S)",
   "order": 2,
   "source": "Lu et al. 2022 (DPM-Solver++)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "dpm_solver_2": {
   "label": "DPM-Solver-2",
   "order": 2,
   "source": "Lu et al. 2022 (DPM-Solver)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "unipc": {
   "label": "UniPC",
   "order": 3,
   "source": "Zhao et al. 2023 (UniPC)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "deis": {
   "label": "DEIS",
   "order": 3,
   "source": "Zhang and Chen 2023 (DEIS)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "lms": {
   "label": "LMS",
   "order": 4,
   "source": "k-diffusion (Crowson 2022)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "ddim": {
   "label": "DDIM",
   "order": 1,
   "source": "Song, Meng, Ermon 2021 (DDIM)",
   "scheduled": false,
   "option": "η",
   "values": [
    [
     "0.0",
     "eta=0.0"
    ],
    [
     "0.5",
     "eta=0.5"
    ],
    [
     "1.0",
     "eta=1.0"
    ]
   ]
  },
  "ddpm": {
   "label": "DDPM",
   "order": 1,
   "source": "Ho, Jain, Abbeel 2020 (DDPM)",
   "scheduled": false,
   "option": "variance",
   "values": [
    [
     "small",
     "variance=\"small\""
    ],
    [
     "large",
     "variance=\"large\""
    ]
   ]
  },
  "euler_maruyama": {
   "label": "Euler–Maruyama",
   "order": 1,
   "source": "Song et al. 2021 (score SDE)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "dpmpp_2m_sde": {
   "label": "DPM-Solver++(2M) SDE",
   "order": 2,
   "source": "Lu et al. 2022 (DPM-Solver++)",
   "scheduled": false,
   "option": "η",
   "values": [
    [
     "1.0",
     "eta=1.0"
    ],
    [
     "0.5",
     "eta=0.5"
    ]
   ]
  },
  "dpmpp_sde": {
   "label": "DPM-Solver++ SDE",
   "order": 2,
   "source": "k-diffusion (Crowson 2022)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "sa_solver": {
   "label": "SA-Solver",
   "order": 2,
   "source": "Xue et al. 2023 (SA-Solver)",
   "scheduled": false,
   "option": "",
   "values": []
  },
  "annealed_langevin": {
   "label": "Annealed Langevin",
   "order": null,
   "source": "Song and Ermon 2019 (NCSN)",
   "scheduled": false,
   "option": "draws a level",
   "values": [
    [
     "5",
     "steps_per_level=5"
    ],
    [
     "1",
     "steps_per_level=1"
    ]
   ]
  }
 },
 "data": {
  "peaks": {
   "label": "Two peaks, as in figure 3",
   "code": "means, stds = np.array([[-1.0], [1.0]]), np.array([0.05, 0.05])\nweights, labels = np.ones(2), np.array([0, 1])",
   "means": [
    [
     -1.0
    ],
    [
     1.0
    ]
   ],
   "stds": [
    0.05,
    0.05
   ],
   "weights": [
    1.0,
    1.0
   ],
   "labels": [
    0,
    1
   ]
  },
  "bumps": {
   "label": "Three bumps",
   "code": "means, stds = np.array([[-1.3], [0.2], [1.2]]), np.array([0.12, 0.3, 0.06])\nweights, labels = np.array([2.0, 2.0, 1.0]), np.array([0, 1, 1])",
   "means": [
    [
     -1.3
    ],
    [
     0.2
    ],
    [
     1.2
    ]
   ],
   "stds": [
    0.12,
    0.3,
    0.06
   ],
   "weights": [
    2.0,
    2.0,
    1.0
   ],
   "labels": [
    0,
    1,
    1
   ]
  },
  "gaussian": {
   "label": "One Gaussian",
   "code": "means, stds = np.array([[0.3]]), np.array([0.5])\nweights, labels = np.ones(1), np.array([0])",
   "means": [
    [
     0.3
    ]
   ],
   "stds": [
    0.5
   ],
   "weights": [
    1.0
   ],
   "labels": [
    0
   ]
  },
  "spirals": {
   "label": "Two spirals",
   "code": "angle = np.linspace(0.8, 4.2, 14)\narm = 0.42 * angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)\nmeans, stds = np.concatenate([arm, -arm]), np.full(28, 0.09)\nweights, labels = np.ones(28), np.repeat([0, 1], 14)",
   "means": [
    [
     0.23409345434064757,
     0.24103164654223969
    ],
    [
     0.21736311611873146,
     0.38927120192812
    ],
    [
     0.13625220837083415,
     0.5387293165797394
    ],
    [
     -0.009196821761309338,
     0.6654749148213425
    ],
    [
     -0.21082010251982297,
     0.7461743671211706
    ],
    [
     -0.45277002165417873,
     0.7606791848632207
    ],
    [
     -0.7127382526557976,
     0.6943934518998559
    ],
    [
     -0.9638710670164827,
     0.5401921621845944
    ],
    [
     -1.1772195931151972,
     0.29969703637066303
    ],
    [
     -1.3245159415064258,
     -0.016230768777544338
    ],
    [
     -1.3810314815990001,
     -0.3878555815737527
    ],
    [
     -1.3282592298341818,
     -0.7877903698833952
    ],
    [
     -1.1561698630449497,
     -1.1830030407958319
    ],
    [
     -0.8648200888449938,
     -1.5374596625375696
    ],
    [
     -0.23409345434064757,
     -0.24103164654223969
    ],
    [
     -0.21736311611873146,
     -0.38927120192812
    ],
    [
     -0.13625220837083415,
     -0.5387293165797394
    ],
    [
     0.009196821761309338,
     -0.6654749148213425
    ],
    [
     0.21082010251982297,
     -0.7461743671211706
    ],
    [
     0.45277002165417873,
     -0.7606791848632207
    ],
    [
     0.7127382526557976,
     -0.6943934518998559
    ],
    [
     0.9638710670164827,
     -0.5401921621845944
    ],
    [
     1.1772195931151972,
     -0.29969703637066303
    ],
    [
     1.3245159415064258,
     0.016230768777544338
    ],
    [
     1.3810314815990001,
     0.3878555815737527
    ],
    [
     1.3282592298341818,
     0.7877903698833952
    ],
    [
     1.1561698630449497,
     1.1830030407958319
    ],
    [
     0.8648200888449938,
     1.5374596625375696
    ]
   ],
   "stds": [
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09,
    0.09
   ],
   "weights": [
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0
   ],
   "labels": [
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1
   ]
  },
  "ring": {
   "label": "A ring of eight",
   "code": "angle = np.arange(8) * np.pi / 4\nmeans, stds = 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(8, 0.12)\nweights, labels = np.ones(8), np.arange(8) % 2",
   "means": [
    [
     1.4,
     0.0
    ],
    [
     0.9899494936611666,
     0.9899494936611664
    ],
    [
     8.572527594031472e-17,
     1.4
    ],
    [
     -0.9899494936611664,
     0.9899494936611666
    ],
    [
     -1.4,
     1.7145055188062944e-16
    ],
    [
     -0.9899494936611667,
     -0.9899494936611664
    ],
    [
     -2.5717582782094415e-16,
     -1.4
    ],
    [
     0.9899494936611662,
     -0.9899494936611667
    ]
   ],
   "stds": [
    0.12,
    0.12,
    0.12,
    0.12,
    0.12,
    0.12,
    0.12,
    0.12
   ],
   "weights": [
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    1.0
   ],
   "labels": [
    0,
    1,
    0,
    1,
    0,
    1,
    0,
    1
   ]
  }
 }
};
