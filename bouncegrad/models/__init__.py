"""The neural networks: the decoder, the scale of its errors, the encoders, and what holds them together.

In the words of neural relational inference (Kipf et al. 2018):

====================  ==============================================================================================
``decoder``           the graph network: predicts trajectories given a structure (latent graph), by message passing with
                      one edge module per edge type (Alet et al. 2019)
``decoder_protocol``  what another decoder must offer
``module_bank``       the modules: one small network per edge type or node type, as stacked tensors
``super_graph``       a batch of scenes as one graph, with packing, unpacking and sums of incoming messages
``noise``             the likelihood of prediction errors (squared, normal, Student-t) and their scale
``encoders``          networks from trajectories, or from a structure, to embeddings of edges and nodes
``proposer``          the proposal network (recognition model): an encoder with a linear map to edge types
``model``             decoder, scale, normalisation and optional proposal network as one ``torch.nn.Module``
``edge_kinds``        the report on edge types that were merged after training
``checkpoint``        models and training states as safetensors files
====================  ==============================================================================================
"""
