"""Motion to pictures: camera, figure, contact sheet, film, player page. Everything works on numpy alone."""
