"""Page for browsers, made with Gradio, which is imported only if the page is served."""
