"""Growth methods, one file each; :data:`gradnet.growth.GROWTH` names them."""
