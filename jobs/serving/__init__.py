"""HTTP server of trained models, on Ray Serve.

`deployment` describes the Serve application, `app` its HTTP interface, `replica` the process that
holds a model, and `predictor` how it answers.
"""
